"""A replica that hangs or is cut off is replaced, and does no harm when it comes back."""

import signal
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


async def holds_all(replica: "Replica") -> bool:
    return "holds" in (leases := await leases_of(replica)) and "waits" not in leases


async def waits_for_all(replica: "Replica") -> bool:
    return "holds none; waits for" in await leases_of(replica)


async def names(waiting: "Replica", holder: "Replica") -> bool:
    """Return whether a replica waits for all leases, and says that another one holds them."""
    return await waits_for_all(waiting) and f":{holder.process.pid} from" in await leases_of(waiting)


async def test_a_hung_replica_is_replaced_and_fenced_when_it_wakes(
    bus: Bus, calls: Calls, replica: "Replicas", eventually: "Eventually"
) -> None:
    first, second = replica(), replica()
    await first.start()
    await eventually(lambda: holds_all(first), SECONDS)
    await second.start()
    await eventually(lambda: names(second, first), SECONDS)
    await calls.publish(1)

    first.process.send_signal(signal.SIGSTOP)
    try:
        await calls.publish(2)
        await eventually(lambda: holds_all(second), SECONDS)
        await calls.committed(2)
    finally:
        first.process.send_signal(signal.SIGCONT)
    await eventually(lambda: names(first, second), SECONDS)
    await calls.publish(3)

    await calls.complete()
    log = first.log.read_text()
    assert "lease.lost" in log or "lease.fenced" in log  # whichever it notices first


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
        await eventually(lambda: waits_for_all(second), SECONDS)
        await calls.publish(1)

        proxy.forwarding.clear()
        await calls.publish(2)
        await eventually(lambda: holds_all(second), SECONDS)
        await calls.committed(2)
        await eventually(lambda: first.is_unready_because("the connection of the leases is lost"), SECONDS)

        proxy.forwarding.set()
        await eventually(lambda: waits_for_all(first), SECONDS)
        await calls.publish(3)
        await calls.complete()
        await first.end()
