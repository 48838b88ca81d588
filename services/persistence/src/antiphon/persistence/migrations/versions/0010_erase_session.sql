-- Delete the events of a session from the log. Of each stay its place and its hash, which the chain of the
-- partition covers, and of the session its last sequence and hash, which a later event continues.
-- It runs as its owner, so that nobody else needs to delete from the log.
-- Returns the number of deleted events. Views and the stream are not touched.
create or replace function erase_session(p_session text) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp  -- not public: others create operators there
as $$
declare
    erased integer;
begin
    -- No commit of the partition runs beside this.
    perform 1 from public.checkpoints
      where name = 'ingest:' || (select partition from public.event_log where session_id = p_session limit 1)
        for update;
    insert into public.erased_sessions (session_id, tenant, last_sequence, last_hash)
    select session_id, tenant, sequence, hash
      from public.event_log
     where session_id = p_session
     order by sequence desc
     limit 1
        on conflict (session_id) do update
       set last_sequence = excluded.last_sequence, last_hash = excluded.last_hash, erased_at = now();
    insert into public.erased_events (partition, position, session_id, sequence, hash)
    select partition, position, session_id, sequence, hash
      from public.event_log
     where session_id = p_session and hash is not null;
    delete from public.event_log where session_id = p_session;
    get diagnostics erased = row_count;
    return erased;
end
$$
