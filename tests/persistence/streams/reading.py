"""What tests of a recreated stream do between its steps: read all of a partition, and look for gaps."""

from typing import TYPE_CHECKING

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.persistence.streams.status import read_stream_status

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, RunningIngest, SampleSession


async def ingest_all(ingest: "RunningIngest", event_log: "LogReader", partition: int, count: int) -> None:
    """Ingest a partition until the log has so many events, and stop."""
    ingest.restart(partition)
    await event_log.until(count, seconds=60)
    await ingest.end()


async def gaps_of(bus: Bus, database: Database, session: "SampleSession") -> list[tuple[int, int]]:
    """Return the gaps of a session's partition."""
    gaps = (await read_stream_status(bus, database)).gaps
    return [(gap.first, gap.last) for gap in gaps if gap.partition == session.partition]
