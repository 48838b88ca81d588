-- How many events of the log each projection has still to fold; one that never ran, all of them.
select projection,
       (select count(*)
          from event_log
          left join projection_checkpoints as checkpoint
            on checkpoint.projection = known.projection and checkpoint.partition = event_log.partition
         where event_log.position > coalesce(checkpoint.position, 0)),
       (select max(updated_at)
          from projection_checkpoints as checkpoint
         where checkpoint.projection = known.projection)
  from unnest($1::text[]) as known (projection)
