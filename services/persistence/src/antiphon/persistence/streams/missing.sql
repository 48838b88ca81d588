-- The sessions of a partition that a gap may have taken events of: $1 partition, $2 first, $3 last position.
-- Each agent job numbers its events from 1 without a gap: a number that is not there is an event that is not.
with events as (
    select session_id, tenant, position, type, occurred_at,
           case when split_part(event_id, ':', 2) = 'agent' then split_part(event_id, ':', 3) end as job,
           (envelope ->> 'producerseq')::bigint as number
      from event_log
     where partition = $1
), jobs as (
    select session_id, greatest(0, max(number) - count(distinct number)) as missing
      from events
     where job is not null
     group by session_id, job
), gap as (
    -- a session lasts a day at most: older ones that never ended have nothing to do with the gap
    select max(occurred_at) - interval '1 day' as since from events where position < $2
), sessions as (
    select session_id, min(tenant) as tenant, min(position) as first, max(position) as last,
           max(occurred_at) as last_at,
           bool_or(type in ('session.closed', 'session.failed')) as ended,
           min(position) filter (where type in ('session.requested', 'session.adopted')) is not null as begun
      from events
     group by session_id
)
select sessions.session_id, tenant, coalesce(sum(missing), 0)::bigint as missing,
       not ended and last < $2 and last_at >= since as unfinished, not begun and first > $3 as headless
  from sessions cross join gap left join jobs using (session_id)
 group by sessions.session_id, tenant, first, last, last_at, since, ended, begun
having (coalesce(sum(missing), 0) > 0 and first <= $3 and last >= $2)
    or (coalesce(sum(missing), 0) > 0 and first > $3 and not begun)
    or (not ended and last < $2 and last_at >= since)
    or (not begun and first > $3)
 order by sessions.session_id
