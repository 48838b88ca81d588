"""The checkpoints of a view: how far each partition is folded, by whom, and where it is stalled."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.projection.declaration import Projection

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_CREATE = """
insert into projection_checkpoints (projection, partition, position)
select name, partition, 0
  from projections, generate_series(0, $3::integer) as partition
 where name = $1 and version = $2
    on conflict do nothing
"""
# The rows are deleted and inserted when a view is swapped: a claim that waits for that finds none.
_CLAIM = """
update projection_checkpoints as checkpoint
   set epoch = epoch + 1, updated_at = now()
  from projections as live
 where live.name = checkpoint.projection and live.version = $2
   and checkpoint.projection = $1 and checkpoint.partition = any($3::smallint[])
returning checkpoint.partition, checkpoint.position, checkpoint.epoch, checkpoint.stalled
"""
_SKIPS = "select partition, position from projection_skips where projection = $1"
_STALL = """
update projection_checkpoints set stalled = $4, updated_at = now()
 where projection = $1 and partition = $2 and epoch = $3
"""
_READ_STALLED = (
    "select stalled from projection_checkpoints where projection = $1 and partition = $2 and epoch = $3"
)


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """The event that a view cannot fold, and its error."""

    position: int
    session_id: str
    sequence: int
    event_id: str
    type: str
    error: str
    attempts: int
    since: datetime

    def __str__(self) -> str:
        return (
            f"stalled at event {self.event_id} ({self.type}, sequence {self.sequence} of {self.session_id}) "
            f"since {self.since:%Y-%m-%d %H:%M:%S} after {self.attempts} attempts: {self.error}"
        )


class Claim(msgspec.Struct, frozen=True):
    """A partition of a view that this process writes, until another claims it."""

    partition: int
    position: int
    epoch: int
    stalled: Stalled | None


async def claim(
    connection: "Connection", projection: Projection, partitions: Collection[int]
) -> dict[int, Claim]:
    """Raise the epochs, which fences every earlier writer, and read the checkpoints.

    Empty if the live view is of another version. Raises any of POSTGRES_ERRORS.
    """
    name, version = projection.name, projection.version
    await connection.execute(_CREATE, name, version, PARTITIONS - 1)
    rows = await connection.fetch(_CLAIM, name, version, list(partitions))
    return {
        partition: Claim(partition, position, epoch, None if stalled is None else _decode(stalled))
        for partition, position, epoch, stalled in rows
    }


async def skips(connection: "Connection", projection: Projection) -> frozenset[tuple[int, int]]:
    """Return the partition and position of each event that an operator made the view skip."""
    return frozenset((row[0], row[1]) for row in await connection.fetch(_SKIPS, projection.name))


async def stall(connection: "Connection", projection: Projection, held: Claim, stalled: Stalled) -> None:
    """Mark a partition as stalled, unless another process has claimed it."""
    document = msgspec.json.encode(stalled).decode()
    await connection.execute(_STALL, projection.name, held.partition, held.epoch, document)


async def is_stalled(connection: "Connection", projection: Projection, held: Claim) -> bool:
    """Return whether a partition is still stalled; it is not when an operator has resumed it."""
    return await connection.fetchval(_READ_STALLED, projection.name, held.partition, held.epoch) is not None


_decode = msgspec.json.Decoder(Stalled).decode
