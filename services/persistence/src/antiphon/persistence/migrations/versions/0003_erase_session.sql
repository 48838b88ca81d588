-- Delete the events of a session from the log and keep its last sequence, so that a later event continues it.
-- Returns the number of deleted events. Views and the stream are not touched.
create function erase_session(p_session text) returns integer
language plpgsql
as $$
declare
    erased integer;
begin
    -- No commit of the partition runs beside this.
    perform 1 from checkpoints
      where name = 'ingest:' || (select partition from event_log where session_id = p_session limit 1)
        for update;
    insert into erased_sessions (session_id, tenant, last_sequence)
    select session_id, tenant, sequence
      from event_log
     where session_id = p_session
     order by sequence desc
     limit 1
        on conflict (session_id) do update
       set last_sequence = excluded.last_sequence, erased_at = now();
    delete from event_log where session_id = p_session;
    get diagnostics erased = row_count;
    return erased;
end
$$
