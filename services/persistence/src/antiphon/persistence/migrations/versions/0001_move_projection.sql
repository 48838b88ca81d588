-- Move a projection's checkpoint, within the statement that writes its rows; fail when another has moved it.
create function move_projection(
    p_projection text,
    p_partitions smallint[],
    p_expected bigint[],
    p_reached bigint[]
) returns void
language plpgsql
as $$
declare
    moved integer;
begin
    update projection_checkpoints as checkpoint
       set position = hand.reached, updated_at = now()
      from unnest(p_partitions, p_expected, p_reached) as hand (partition, expected, reached)
     where checkpoint.projection = p_projection
       and checkpoint.partition = hand.partition
       and checkpoint.position = hand.expected;
    get diagnostics moved = row_count;
    if moved <> cardinality(p_partitions) then
        raise exception 'projection % was moved by another writer', p_projection using errcode = 'AP001';
    end if;
end
$$
