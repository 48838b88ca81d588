-- What code of earlier revisions calls: it may not write a view that was built in a version it does not know.
create or replace function advance_projection(
    p_projection text,
    p_partitions smallint[],
    p_expected bigint[],
    p_reached bigint[]
) returns void
language plpgsql
as $$
declare
    advanced integer;
begin
    update projection_checkpoints as checkpoint
       set position = pending.reached, updated_at = now()
      from unnest(p_partitions, p_expected, p_reached) as pending (partition, expected, reached)
     where checkpoint.projection = p_projection
       and checkpoint.partition = pending.partition
       and checkpoint.position = pending.expected;
    get diagnostics advanced = row_count;
    if advanced <> cardinality(p_partitions)
       or exists (select from projections where name = p_projection and version > 1) then
        raise exception 'projection % was advanced by another writer', p_projection using errcode = 'AP001';
    end if;
end
$$
