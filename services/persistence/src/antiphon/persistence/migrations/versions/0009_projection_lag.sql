create or replace function projection_lag(views text[] default null) returns bigint
language sql stable security definer
set search_path from current
-- the plan must not depend on how large the log was when it was analysed
set enable_seqscan = off
set enable_bitmapscan = off
as $$
    select coalesce(sum(unfolded), 0)::bigint
      from (
        select number::smallint as partition, min(coalesce(checkpoint.position, 0)) as position
          from projections as live
         cross join generate_series(0, 15) as number
          left join projection_checkpoints as checkpoint
            on checkpoint.projection = live.name and checkpoint.partition = number
         where (views is null or live.name = any (views))
           and checkpoint.stalled is null  -- it waits for an operator: more replicas do not help
         group by number) as furthest_behind
     cross join lateral (
        select count(*) as unfolded
          from (
            select
              from event_log
             where event_log.partition = furthest_behind.partition
               and event_log.position > furthest_behind.position
             order by event_log.position
             limit 10000) as counted) as counts
$$
