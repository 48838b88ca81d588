"""A replica that hangs or is cut off is replaced, and does no harm when it comes back."""

import re
import signal
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from tests.fixtures.cut_off import cut_off_proxy

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import PARTITIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import (
        Eventually,
        LogReader,
        NewSession,
        Publish,
        Replica,
        Replicas,
        SampleSession,
    )

pytestmark = pytest.mark.slow

SECONDS = 60.0
TURNS = 30


def one_of_each_partition(new_session: "NewSession") -> list["SampleSession"]:
    found: dict[int, SampleSession] = {}
    number = 0
    while len(found) < PARTITIONS:
        session = new_session(f"takeover {number}")
        found.setdefault(session.partition, session)
        number += 1
    return list(found.values())


class Calls:
    """A call in each partition, published in three parts and compared with the log."""

    def __init__(self, new_session: "NewSession", publish: "Publish", event_log: "LogReader") -> None:
        sessions = one_of_each_partition(new_session)
        self._calls = {s.session_id: [s.turn(n) for n in range(1, 3 * TURNS + 1)] for s in sessions}
        self._publish = publish
        self._log = event_log

    async def publish(self, part: int) -> None:
        """Publish the next part, interleaved."""
        part_of = slice((part - 1) * TURNS, part * TURNS)
        rounds: Iterable[tuple[Envelope, ...]] = zip(
            *(call[part_of] for call in self._calls.values()), strict=True
        )
        await self._publish(envelope for turn in rounds for envelope in turn)

    async def committed(self, part: int) -> None:
        """Wait until everything up to this part is in the log."""
        await self._log.until(part * TURNS * PARTITIONS, seconds=SECONDS)

    async def complete(self) -> None:
        """Compare the log with what was published: nothing lost, twice or out of order."""
        await self.committed(3)
        for session_id, call in self._calls.items():
            assert await self._log.events(session_id) == [(n, e.id) for n, e in enumerate(call, 1)]
        assert await self._log.dead_letters() == []


@pytest.fixture
def calls(new_session: "NewSession", publish: "Publish", event_log: "LogReader") -> Calls:
    return Calls(new_session, publish, event_log)


async def leases_of(replica: "Replica") -> str:
    """Return what a replica that is ready says about its leases; empty while it is not."""
    status, body = await replica.health()
    return str(body["checks"]["leases"]["detail"]) if status == 200 else ""


async def share_of(replica: "Replica") -> int:
    """Return how many partitions of ingest a replica holds; 0 while it is not ready."""
    found = re.search(r"ingest holds [^(]*\((\d+) of 16", await leases_of(replica))
    return int(found[1]) if found else 0


async def holds_all(replica: "Replica") -> bool:
    return await share_of(replica) == PARTITIONS


async def share_fairly(first: "Replica", second: "Replica") -> bool:
    """Return whether each of two replicas holds its half, and names the other as the holder of the rest."""
    halves = await share_of(first) == await share_of(second) == PARTITIONS // 2
    return halves and await names(first, second) and await names(second, first)


async def names(replica: "Replica", holder: "Replica") -> bool:
    """Return whether a replica says that another one holds partitions."""
    return (
        f", held by persistence leases {socket.gethostname()}:{holder.process.pid} from"
        in await leases_of(replica)
    )


async def test_a_hung_replica_is_replaced_and_fenced_when_it_wakes(
    bus: Bus, calls: Calls, replica: "Replicas", eventually: "Eventually"
) -> None:
    first, second = replica(), replica()
    await first.start()
    await eventually(lambda: holds_all(first), SECONDS)
    await second.start()
    await eventually(lambda: share_fairly(first, second), SECONDS)
    await calls.publish(1)

    first.process.send_signal(signal.SIGSTOP)
    try:
        await calls.publish(2)
        await eventually(lambda: holds_all(second), SECONDS)
        await calls.committed(2)
    finally:
        first.process.send_signal(signal.SIGCONT)
    await eventually(lambda: share_fairly(first, second), SECONDS)
    await calls.publish(3)

    await calls.complete()
    log = first.log.read_text()
    assert "leases.lost" in log or "lease.fenced" in log  # whichever it notices first


async def test_a_replica_that_is_cut_off_from_postgres_is_replaced(
    bus: Bus, calls: Calls, replica: "Replicas", postgres_server: Postgres, eventually: "Eventually"
) -> None:
    async with cut_off_proxy(postgres_server.port) as proxy:
        first, second = replica(), replica()
        dsn = first.environment["ANTIPHON_POSTGRES_DSN"]
        first.environment["ANTIPHON_POSTGRES_DSN"] = dsn.replace(
            f":{postgres_server.port}/", f":{proxy.port}/"
        )
        await first.start()
        await eventually(lambda: holds_all(first), SECONDS)
        await second.start()
        await eventually(lambda: share_fairly(first, second), SECONDS)
        await calls.publish(1)

        proxy.forwarding.clear()
        await calls.publish(2)
        await eventually(lambda: holds_all(second), SECONDS)
        await calls.committed(2)
        await eventually(lambda: first.is_unready_because("the connection of the leases is lost"), SECONDS)

        proxy.forwarding.set()
        await eventually(lambda: share_fairly(first, second), SECONDS)
        await calls.publish(3)
        await calls.complete()
        await first.end()
