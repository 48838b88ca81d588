-- Advance the checkpoint of a projection, within the statement that writes its rows; fail if another writer has.
create function advance_projection(
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
    if advanced <> cardinality(p_partitions) then
        raise exception 'projection % was advanced by another writer', p_projection using errcode = 'AP001';
    end if;
end
$$
