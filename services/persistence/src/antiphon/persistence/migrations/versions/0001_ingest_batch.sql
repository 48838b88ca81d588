-- Commit what one or more partitions have in hand: fence, number, insert and move the checkpoints, in one
-- round trip. Returns the sequence that each new event got; an event that is in the log already gets none.
create function ingest_batch(
    p_partitions smallint[],
    p_epochs bigint[],
    p_expected bigint[],
    p_reached bigint[],
    p_event_partitions smallint[],
    p_positions bigint[],
    p_sessions text[],
    p_tenants text[],
    p_events text[],
    p_types text[],
    p_versions smallint[],
    p_times timestamptz[],
    p_envelopes json[],
    p_dead_partitions smallint[],
    p_dead_positions bigint[],
    p_dead_subjects text[],
    p_dead_payloads bytea[],
    p_dead_headers json[],
    p_dead_errors text[]
) returns table (ordinal integer, sequence integer)
language plpgsql
-- The plan must not depend on how small the log was when it was first made: always by index.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    moved integer;
begin
    update checkpoints
       set position = hand.reached, updated_at = now()
      from unnest(p_partitions, p_epochs, p_expected, p_reached) as hand (partition, epoch, expected, reached)
     where checkpoints.name = 'ingest:' || hand.partition
       and checkpoints.epoch = hand.epoch
       and checkpoints.position = hand.expected;
    get diagnostics moved = row_count;
    if moved <> cardinality(p_partitions) then
        raise exception 'another writer holds one of the partitions %', p_partitions using errcode = 'AP001';
    end if;

    if cardinality(p_dead_positions) > 0 then
        insert into dead_letters (partition, position, subject, payload, headers, error)
        select dead.*
          from unnest(p_dead_partitions, p_dead_positions, p_dead_subjects, p_dead_payloads, p_dead_headers,
                      p_dead_errors) as dead;
    end if;

    -- One writer per partition, fenced above: what is not in the log now cannot come in beside us.
    return query
    with incoming as (
        select *
          from unnest(p_event_partitions, p_positions, p_sessions, p_tenants, p_events, p_types, p_versions,
                      p_times, p_envelopes)
               with ordinality
               as batch (partition, position, session_id, tenant, event_id, type, version, occurred_at,
                         envelope, ordinal)
    ), fresh as (
        select distinct on (session_id, event_id) *
          from incoming
         where (select true from event_log as known
                 where known.session_id = incoming.session_id and known.event_id = incoming.event_id
                 limit 1) is null
         order by session_id, event_id, ordinal
    ), heads as materialized (
        select touched.session_id,
               coalesce(newest.sequence, 0) as sequence,
               coalesce(newest.tenant, touched.tenant) as tenant
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
                    then (heads.sequence + row_number() over (partition by session_id order by ordinal))::integer
                    else refuse_tenant(session_id, fresh.tenant)
               end as sequence
          from fresh join heads using (session_id)
    ), written as (
        insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
                               occurred_at, envelope)
        select session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope
          from numbered
    )
    select ordinal::integer, sequence from numbered order by ordinal;
end
$$
