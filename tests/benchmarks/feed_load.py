"""A process that commits and announces events at a steady rate, and notes when each was committed."""

import asyncio
import sys
import time
from array import array
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, encode, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import named_session_id
from antiphon.contracts.subjects import committed_subject, partition_of

BATCH = 10
SESSIONS = 50
INSERT = """
insert into event_log (session_id, sequence, partition, position, tenant, event_id, type, version,
    occurred_at, envelope)
select session_id, sequence, partition, position, 'default', event_id, 'turn.saved', 1, now(), envelope::json
from unnest($1::text[], $2::int[], $3::smallint[], $4::bigint[], $5::text[], $6::text[])
    as fresh (session_id, sequence, partition, position, event_id, envelope)
"""


class Load:
    """The next events of some sessions."""

    def __init__(self) -> None:
        self._position = time.time_ns() // 1000  # beyond those of an earlier run
        self._run = str(self._position)
        self._sequences: Counter[str] = Counter()

    def next(self) -> Envelope:
        """Return the next event."""
        self._position += 1
        session_id = named_session_id(self._run, str(self._position % SESSIONS))
        self._sequences[session_id] += 1
        number = self._sequences[session_id]
        turn = TurnSaved(
            turn=number,
            agent_id="host",
            user_text="a table for two, tomorrow at seven",
            assistant_text="A table for two, tomorrow at seven. Shall I book it?",
            metrics={"ms": 1},
        )
        envelope = seal(
            turn,
            id=f"{session_id}:{number}",
            session_id=session_id,
            tenant="default",
            producer="benchmark",
            producerseq=number,
            time=datetime.now(UTC),
        )
        return committed(envelope, number, self._position)


async def commit(database: Database, envelopes: list[Envelope]) -> None:
    """Insert committed envelopes."""
    rows = [
        (e.subject, e.sequence, partition_of(e.subject), e.position, e.id, encode(_published(e)).decode())
        for e in envelopes
    ]
    await database.pool.execute(INSERT, *zip(*rows, strict=True))


def _published(envelope: Envelope) -> Envelope:
    return msgspec.structs.replace(envelope, sequence=msgspec.UNSET, position=msgspec.UNSET)


async def main(nats_url: str, dsn: str, rate: int, seconds: int, path: str) -> None:
    """Commit at a rate, once a line says so; print how many events."""
    bus = await Bus.connect(nats_url, name="feed load")
    database = await Database.connect(dsn, max_size=1)
    load, positions, times = Load(), array("q"), array("d")
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    for number in range(rate * seconds // BATCH):
        await asyncio.sleep(began + number * BATCH / rate - time.perf_counter())
        envelopes = [load.next() for _ in range(BATCH)]
        await commit(database, envelopes)
        at = time.time()
        for envelope in envelopes:
            positions.append(int(envelope.position or 0))
            times.append(at)
            payload = msgspec.json.encode([envelope])
            await bus.announce(committed_subject("default", envelope.subject), payload)
    Path(path).write_bytes(positions.tobytes() + times.tobytes())  # noqa: ASYNC240 - the load is over
    print(len(positions), flush=True)
    await bus.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
