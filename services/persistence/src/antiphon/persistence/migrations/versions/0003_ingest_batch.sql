-- Commit the batches of one or more partitions in one round trip: check the fence, advance the checkpoints,
-- insert dead letters and events. Returns the sequence of each new event; an event that is already in the log
-- is not returned. `p_last_event_ids` has the id of the last message of each commit, in the order of `p_commits`.
create function ingest_batch(
    p_commits partition_commit[],
    p_events new_event[],
    p_dead_letters new_dead_letter[],
    p_last_event_ids text[] default null
) returns table (partition smallint, "position" bigint, sequence integer)
language plpgsql
-- The plan must not depend on how small the log was when it was made: always use the indexes.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    advanced integer;
begin
    update checkpoints
       set position = pending.reached, last_event_id = p_last_event_ids[pending.number], updated_at = now()
      from unnest(p_commits) with ordinality as pending (partition, epoch, expected, reached, number)
     where checkpoints.name = 'ingest:' || pending.partition
       and checkpoints.epoch = pending.epoch
       and checkpoints.position = pending.expected;
    get diagnostics advanced = row_count;
    if advanced <> cardinality(p_commits) then
        raise exception 'another writer owns one of the partitions %',
              (select array_agg(partition) from unnest(p_commits))
              using errcode = 'AP001';
    end if;

    if cardinality(p_dead_letters) > 0 then
        insert into dead_letters (partition, position, subject, payload, headers, error)
        select letter.*
          from unnest(p_dead_letters) as letter;
    end if;

    -- One writer per partition, fenced above: no event can be inserted between this check and the insert.
    return query
    with incoming as (
        select *
          from unnest(p_events)
    ), fresh as (
        select distinct on (session_id, event_id) *
          from incoming
         where (select true from event_log as known
                 where known.session_id = incoming.session_id and known.event_id = incoming.event_id
                 limit 1) is null
         order by session_id, event_id, position
    ), heads as materialized (
        select touched.session_id,
               coalesce(
                   newest.sequence,
                   (select last_sequence from erased_sessions where session_id = touched.session_id),
                   0
               ) as sequence,
               coalesce(
                   newest.tenant,
                   (select tenant from erased_sessions where session_id = touched.session_id),
                   touched.tenant
               ) as tenant
          from (select session_id, min(tenant) as tenant from fresh group by session_id) as touched
          left join lateral (
            select known.sequence, known.tenant
              from event_log as known
             where known.session_id = touched.session_id
             order by known.sequence desc
             limit 1
          ) as newest on true
    ), numbered as materialized (
        select fresh.*,
               case when fresh.tenant = heads.tenant
                    then (heads.sequence + row_number() over (partition by session_id order by position))::integer
                    else refuse_tenant(session_id, fresh.tenant)
               end as sequence
          from fresh join heads using (session_id)
    ), written as (
        insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                               occurred_at, envelope)
        select session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope
          from numbered
    )
    select partition, position, sequence from numbered;
end
$$
