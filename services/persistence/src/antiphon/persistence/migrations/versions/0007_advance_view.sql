-- Advance the checkpoints of a view: of each partition from `p_expected` to `p_reached`. Another writer, or a
-- view that was built again, is noticed by epoch and position. The table is that of the search path: a view that
-- is built has checkpoints of its own.
create function advance_view(
    p_projection text,
    p_partitions smallint[],
    p_epochs bigint[],
    p_expected bigint[],
    p_reached bigint[]
) returns void
language plpgsql
as $$
declare
    advanced smallint[];
begin
    with moved as (
        update projection_checkpoints as checkpoint
           set position = pending.reached, updated_at = now()
          from unnest(p_partitions, p_epochs, p_expected, p_reached)
               as pending (partition, epoch, expected, reached)
         where checkpoint.projection = p_projection
           and checkpoint.partition = pending.partition
           and checkpoint.epoch = pending.epoch
           and checkpoint.position = pending.expected
        returning checkpoint.partition
    )
    select coalesce(array_agg(partition), '{}') into advanced from moved;
    if cardinality(advanced) <> cardinality(p_partitions) then
        raise exception 'another writer has taken over projection %', p_projection
              using errcode = 'AP001',
                    detail = (select string_agg(partition::text, ' ')
                                from unnest(p_partitions) as pending (partition)
                               where partition <> all (advanced));
    end if;
end
$$
