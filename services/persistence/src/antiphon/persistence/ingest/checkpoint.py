"""The checkpoint of one partition: what ingest read last, of which stream, and why it is stopped."""

from datetime import datetime

from msgspec import Struct

from antiphon.chassis.bus import StreamState
from antiphon.chassis.database import Database
from antiphon.persistence.errors import Fenced

_COLUMNS = "position, epoch, last_event_id, greatest(read_through, position), stream_created_at, stopped"

_CLAIM = f"""
insert into checkpoints (name, epoch) values ($1, 1)
on conflict (name) do update set epoch = checkpoints.epoch + 1, updated_at = now()
returning {_COLUMNS.replace("read_through, position", "checkpoints.read_through, checkpoints.position")}
"""
_READ = f"select {_COLUMNS} from checkpoints where name = $1"
_VERIFIED = """
with fenced as (
    update checkpoints
       set stream_created_at = $3, read_through = greatest(read_through, position, $4::bigint)
     where name = $1 and epoch = $2
 returning true
), gap as (
    insert into log_gaps (partition, first, last, reason)
    select $5::smallint, $6::bigint, $4::bigint, $7::text from fenced where $6::bigint <= $4::bigint
        on conflict (partition, first) do update set last = excluded.last, reason = excluded.reason
)
select count(*) from fenced
"""
_STOP = "update checkpoints set stopped = $3, updated_at = now() where name = $1 and epoch = $2"
_READ_THROUGH = """
update checkpoints set read_through = $3
 where name = $1 and epoch = $2 and position = $4 and read_through < $3
"""


class Checkpoint(Struct, frozen=True):
    """A row of `checkpoints`.

    `read_through` is a position up to which no message of the partition is unread: at least `position`, and
    more when later messages of the stream belong to other partitions.
    `last_event_id` is the identity of the message at `position`, None when it is not known.
    """

    position: int
    epoch: int
    last_event_id: str | None
    read_through: int
    stream_created_at: datetime | None
    stopped: str | None


class Checkpoints:
    """The row of one partition in Postgres. Every method raises any of POSTGRES_ERRORS."""

    def __init__(self, database: Database, partition: int) -> None:
        self._pool = database.pool
        self._partition = partition
        self._name = f"ingest:{partition}"

    async def claim(self) -> Checkpoint:
        """Raise the epoch, which fences every earlier writer, and read the checkpoint."""
        [row] = await self._pool.fetch(_CLAIM, self._name)
        return Checkpoint(*row)

    async def read(self, epoch: int) -> Checkpoint:
        """Read the checkpoint.

        Raises Fenced when it has another epoch.
        """
        row = await self._pool.fetchrow(_READ, self._name)
        if row is None or row["epoch"] != epoch:
            raise Fenced(f"partition {self._partition} has epoch {row and row['epoch']}, not {epoch}")
        return Checkpoint(*row)

    async def verified(self, checkpoint: Checkpoint, stream: StreamState) -> int:
        """Record the stream whose identity was checked; return how many positions may have been lost unread.

        The positions between what was read and the first that the stream still has are recorded as a gap.
        Raises Fenced.
        """
        first, last = checkpoint.read_through + 1, stream.first - 1
        reason = "dropped from the stream before it was read, if it belonged to the partition"
        fenced = await self._pool.fetchval(
            _VERIFIED,
            self._name,
            checkpoint.epoch,
            stream.created_at,
            last,
            self._partition,
            first,
            reason,
        )
        if fenced != 1:
            raise Fenced(f"partition {self._partition} has another epoch than {checkpoint.epoch}")
        return max(0, last - first + 1)

    async def read_through(self, epoch: int, position: int, through: int) -> None:
        """Record that no message of the partition between its checkpoint and a later position is unread."""
        await self._pool.execute(_READ_THROUGH, self._name, epoch, through, position)

    async def stop(self, epoch: int, reason: str) -> None:
        """Stop the partition: no process ingests it until an operator has recreated the stream."""
        await self._pool.execute(_STOP, self._name, epoch, reason)
