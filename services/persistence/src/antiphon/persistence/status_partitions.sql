-- How far ingest is in each partition, those that never had an event included.
select partition,
       coalesce(checkpoint.position, 0),
       coalesce(checkpoint.epoch, 0),
       checkpoint.updated_at
  from generate_series(0, $1::integer) as partition
  left join checkpoints as checkpoint on checkpoint.name = 'ingest:' || partition
 order by partition
