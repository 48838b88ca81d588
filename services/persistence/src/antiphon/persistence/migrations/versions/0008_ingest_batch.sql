-- Commit the batches of one or more partitions in one round trip: check the fence, insert dead letters and
-- events, continue the hash chains, advance the checkpoints. Returns the sequence of each new event; an event
-- that is already in the log is not returned. `p_last_event_ids` has the id of the last message of each commit,
-- in the order of `p_commits`.
create or replace function ingest_batch(
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
    owned integer;
begin
    -- Locked before anything is read: the next statement sees all that an earlier owner has committed.
    select count(*)
      into owned
      from (
        select from unnest(p_commits) as pending
          join checkpoints
            on checkpoints.name = 'ingest:' || pending.partition
           and checkpoints.epoch = pending.epoch
           and checkpoints.position = pending.expected
         order by checkpoints.name
           for no key update of checkpoints
      ) as locked;
    if owned <> cardinality(p_commits) then
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
    with pending as materialized (
        select commits.partition,
               commits.reached,
               p_last_event_ids[commits.number] as last_event_id,
               -- The time of commit never goes back within a partition, whatever the clock does.
               greatest(clock_timestamp(), checkpoints.committed_at) as committed_at,
               coalesce(checkpoints.chained_after, commits.expected) as chained_after,
               coalesce(checkpoints.chain, chain_start(commits.partition, commits.expected)) as chain
          from unnest(p_commits) with ordinality as commits (partition, epoch, expected, reached, number)
          join checkpoints on checkpoints.name = 'ingest:' || commits.partition
    ), incoming as (
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
               coalesce(newest.sequence, erased.last_sequence, 0) as sequence,
               coalesce(newest.tenant, erased.tenant, touched.tenant) as tenant,
               coalesce(newest.hash, erased.last_hash, '') as hash
          from (select session_id, min(tenant) as tenant from fresh group by session_id) as touched
          left join lateral (
            select known.sequence, known.tenant, known.hash
              from event_log as known
             where known.session_id = touched.session_id
             order by known.sequence desc
             limit 1
          ) as newest on true
          left join lateral (
            select last_sequence, tenant, last_hash
              from erased_sessions
             where erased_sessions.session_id = touched.session_id and newest.sequence is null
             limit 1
          ) as erased on true
    ), numbered as (
        select fresh.*,
               pending.committed_at,
               pending.chain as partition_head,
               heads.hash as session_head,
               case when fresh.tenant = heads.tenant
                    then (heads.sequence + row_number() over (partition by session_id order by position))::integer
                    else refuse_tenant(session_id, fresh.tenant)
               end as sequence
          from fresh
          join heads using (session_id)
          join pending using (partition)
    ), linked as (
        select numbered.*,
               chain(
                   session_head,
                   event_digest(
                       sequence, position, partition, version, occurred_at, committed_at, session_id, tenant,
                       event_id, type, envelope
                   )
               ) over (partition by session_id order by position) as hash
          from numbered
    ), chained as materialized (
        select linked.*, chain(partition_head, hash) over (partition by partition order by position) as chain
          from linked
    ), written as (
        insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                               occurred_at, envelope, committed_at, hash, chain)
        select session_id, sequence, partition, position, tenant, event_id, type, version,
               occurred_at, envelope, committed_at, hash, chain
          from chained
    ), newest as (
        select partition, count(*) as events, (array_agg(chain order by position desc))[1] as chain
          from chained
         group by partition
    ), advanced as (
        update checkpoints
           set position = pending.reached,
               last_event_id = pending.last_event_id,
               updated_at = now(),
               committed_at = pending.committed_at,
               chain = coalesce(newest.chain, pending.chain),
               chained_after = pending.chained_after,
               chained = checkpoints.chained + coalesce(newest.events, 0)
          from pending left join newest using (partition)
         where checkpoints.name = 'ingest:' || pending.partition
    )
    select partition, position, sequence from chained;
end
$$
