-- The next rows of a partition after position $2 and up to $3, erased events among them: at most $4, and about
-- $5 bytes; with $6 those of one tenant only. Each with what comes before it in its session: an event, or the
-- last of those that were erased.
with found as (
    select position, session_id, sequence, partition, tenant, event_id, type, version, occurred_at, committed_at,
           envelope::text as envelope, hash, chain
      from (
        select * from event_log
         where partition = $1 and position > $2 and position <= $3 /* and tenant = $6 */
         order by position
         limit $4
      ) as events
    union all
    select position, session_id, sequence, partition, null, null, null, null, null, null, null, hash, null
      from (
        select * from erased_events
         where partition = $1 and position > $2 and position <= $3 and $6::text is null
         order by position
         limit $4
      ) as erased
), measured as (
    select *, coalesce(sum(octet_length(envelope)) over (
               order by position rows between unbounded preceding and 1 preceding), 0) as before
      from found
     order by position
     limit $4
)
select measured.position, measured.session_id, measured.sequence, measured.partition, measured.tenant,
       measured.event_id, measured.type, measured.version, measured.occurred_at, measured.committed_at,
       measured.envelope, measured.hash, measured.chain,
       previous.position as previous_position,
       coalesce(previous.hash, erased.last_hash) as previous_hash,
       erased.last_sequence as erased_through
  from measured
  left join lateral (
    select known.position, known.hash
      from event_log as known
     where known.session_id = measured.session_id and known.sequence = measured.sequence - 1
     limit 1
  ) as previous on true
  left join lateral (
    select last_sequence, last_hash from erased_sessions where session_id = measured.session_id limit 1
  ) as erased on true
 where measured.before < $5
 order by measured.position
