"""What locks cost: TLS and a user of its own for each service, against neither, on equal servers."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.locked_nats import LockedServer
from tests.fixtures.nats_servers import Certificates

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.chassis.database import Database
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.nats_users import OPERATOR
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.subjects import PARTITIONS

from .ingest import conversation, fill, ingest, throughput
from .report import Report, Result, Servers

SINGLE = 400  # events, each one waited for
BATCHES, BATCH = 60, 50
STORED = 12_000  # events that are ingested, and what was published before
PASSES = 3

Access = Callable[[str], NatsAccess]


async def run(servers: Servers, report: Report) -> None:
    """Publish as an agent and ingest as persistence, in turn on an open and on a locked server."""
    with tempfile.TemporaryDirectory(dir=servers.folder) as name:
        folder = Path(name)
        made = Certificates(folder)
        locked = LockedServer(folder / "locked", made.server_config(), tls=True)
        plain = NatsServer(folder / "plain")
        accesses: dict[str, Access] = {
            "without": lambda _: NatsAccess(url=plain.url),
            "with": lambda user: locked.access(user, made.ca),
        }
        database = await Database.connect(servers.dsn, max_size=PARTITIONS + 4)
        try:
            report.step("start both servers and fill their streams", seconds=120)
            plain.start()
            locked.launch()
            for access in accesses.values():
                operator = await locked.connect(access(OPERATOR))
                await operator.ensure()
                await fill(operator, STORED)
                await operator.close()
            found: dict[str, dict[str, float]] = {name: {} for name in accesses}
            for number in range(1, PASSES + 1):
                for locks, access in accesses.items():
                    report.step(f"{locks} locks, pass {number} of {PASSES}", seconds=120)
                    for what, value in (await _measure(access, database)).items():
                        found[locks][what] = max(value, found[locks].get(what, 0.0))
        finally:
            await database.close()
            for server in (plain, locked):
                server.kill()
    for what, value in found["with"].items():
        report.row(
            Result(
                name=f"{what}, with TLS and users",
                value=value,
                unit="events/s",
                baseline_name="without",
                baseline=found["without"][what],
                better="higher",
            )
        )


async def _measure(access: Access, database: Database) -> dict[str, float]:
    agent = await Bus.connect(access("agent-worker"), name="benchmark")
    try:
        state = await agent.stream_state()
        if state is None:
            raise RuntimeError("the stream is gone")
        ingested = await throughput(ingest, access("persistence"), database, state.last)
        single = [outgoing(event) for event in conversation(SINGLE, f"single {state.last}")]
        batched = [outgoing(event) for event in conversation(BATCHES * BATCH, f"batched {state.last}")]
        return {
            "ingest": ingested,
            "publish, one after the other": await _publish(agent, single, 1),
            f"publish, batches of {BATCH}": await _publish(agent, batched, BATCH),
        }
    finally:
        await agent.close()


async def _publish(agent: Bus, outs: list[Outgoing], size: int) -> float:
    began = time.perf_counter()
    for start in range(0, len(outs), size):
        await agent.publish_many(outs[start : start + size])
    return len(outs) / (time.perf_counter() - began)
