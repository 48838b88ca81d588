"""An upgrade under load: replicas of the release before are replaced one by one, and nobody notices."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.upgrade.balancer import Balancer
from tests.upgrade.calls import Calls
from tests.upgrade.conftest import API_KEY
from tests.upgrade.load import Load, under_load
from tests.upgrade.replicas import LOOPBACK, Release, Replica

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port

pytestmark = [pytest.mark.timeout(1500), pytest.mark.livekit]

REPLICAS = 2
PRE_STOP_SECONDS = 2.0  # in which no new connection comes to a replica, before its SIGTERM
STEADY_SECONDS = 5.0  # of load, before and after
UNTIL_COMMITTED_SECONDS = 120.0
EVENTS_OF_THE_API = {"session.requested", "session.dispatched"}
WEBHOOK = "livekit.room_started"

EVENTS = "select session_id, sequence, event_id, type from event_log order by session_id, sequence"


class Deployment:
    """The replicas of each service, and the balancers before them."""

    def __init__(self, balancers: dict[str, Balancer]) -> None:
        self.balancers = balancers
        self.replicas: dict[str, list[Replica]] = {}

    async def start(self, release: Release, service: str) -> Replica:
        """Start one more replica, and use it when it is ready."""
        replica = await release.start(service)
        await replica.until_ready()
        self.replicas.setdefault(service, []).append(replica)
        if service in self.balancers:
            self.balancers[service].add(replica)
        return replica

    async def replace(self, release: Release, service: str) -> None:
        """Replace the replicas that are there one by one, as a Deployment with `maxUnavailable: 0` does."""
        for old in tuple(self.replicas[service]):
            await self.start(release, service)
            self.replicas[service].remove(old)
            if service in self.balancers:
                self.balancers[service].remove(old)
                await asyncio.sleep(PRE_STOP_SECONDS)
            assert await old.end() == 0, old.log.read_text()[-4000:]

    async def restart(self, release: Release, service: str) -> None:
        """Replace replicas of this version with a SIGTERM only: the balancer finds out by itself."""
        for old in tuple(self.replicas[service]):
            await self.start(release, service)
            self.replicas[service].remove(old)
            ending = asyncio.create_task(old.end())
            await self.balancers[service].until_unused(old)
            assert await ending == 0, old.log.read_text()[-4000:]
            self.balancers[service].remove(old)


@pytest.fixture
async def deployment(webhooks_port: int) -> AsyncIterator[Deployment]:
    """A deployment without replicas, with balancers before session-api and webhook-ingest."""
    async with AsyncExitStack() as stack:
        yield Deployment(
            {
                service: await stack.enter_async_context(Balancer.running(port))
                for service, port in (("session-api", free_port()), ("webhook-ingest", webhooks_port))
            }
        )


async def test_an_upgrade_under_load_refuses_no_create_and_loses_no_event(
    previous: Release,
    previous_tree: Path,
    present: Release,
    deployment: Deployment,
    broker: NatsServer,
    new_dsn: str,
) -> None:
    await _succeeds(previous, "antiphon.persistence", "migrate")
    for service in ("persistence", "session-api", "webhook-ingest", "agent-worker"):
        await asyncio.gather(*(deployment.start(previous, service) for _ in range(REPLICAS)))
    await _succeeds(previous, "antiphon.agent_worker", "publish-flows", str(previous_tree / "flows"))
    url = f"http://{LOOPBACK}:{deployment.balancers['session-api'].port}"
    bus = await Bus.connect(broker.url, name="load")
    try:
        async with Calls.of(url, API_KEY) as calls:
            await asyncio.gather(*(calls.begin() for _ in range(REPLICAS)))
            async with under_load(bus, url, API_KEY, new_dsn) as load:
                load.begin("before")
                await asyncio.sleep(STEADY_SECONDS)
                load.begin("migration")
                await _succeeds(present, "antiphon.persistence", "migrate")
                for service in ("persistence", "session-api", "webhook-ingest"):
                    load.begin(service)
                    await deployment.replace(present, service)
                load.begin("agent-worker")
                await _workers_are_replaced(deployment, present, calls)
                # The release before closes pooled connections without a word; this one tells first.
                load.pooled = True
                load.begin("session-api again, by SIGTERM only")
                await deployment.restart(present, "session-api")
                load.begin("after")
                await asyncio.sleep(STEADY_SECONDS)
                load.begin("end")
        print(f"\n{load}", flush=True)

        assert load.refused == []
        assert all(stage.created for stage in load.stages[1:-1])
        known = {*load.published, *calls.begun}
        await _everything_is_committed(new_dsn, load, known)
        await _everything_has_ended(url, load)
        for arguments in (("verify", "--log"), ("verify",)):
            await _succeeds(present, "antiphon.persistence", *arguments)

        await deployment.replace(previous, "session-api")
        await deployment.replace(previous, "persistence")
        async with under_load(bus, url, API_KEY, new_dsn) as rolled_back:
            await asyncio.sleep(STEADY_SECONDS)
    finally:
        await bus.close()
    assert rolled_back.refused == []
    assert rolled_back.published
    await _everything_is_committed(new_dsn, rolled_back, known | rolled_back.published.keys())
    assert deployment.balancers["session-api"].refused == []
    assert deployment.balancers["webhook-ingest"].refused == []
    await _succeeds(present, "antiphon.persistence", "verify", "--log")


async def _succeeds(release: Release, *arguments: str) -> None:
    code, output = await release.run(*arguments)
    assert code == 0, output


async def _workers_are_replaced(deployment: Deployment, release: Release, calls: Calls) -> None:
    """Replace the agent workers, which have calls; these go on until something ends them."""
    workers = tuple(deployment.replicas["agent-worker"])
    for old in workers:
        await deployment.start(release, "agent-worker")
        old.tell(signal.SIGTERM)
    await calls.begin()  # with an agent of the new release: the old ones take no more
    assert await calls.states() == [("joined", None)] * len(calls.begun)  # nobody has come to be greeted
    assert None in [old.process.returncode for old in workers]
    await calls.end()
    for old in workers:
        assert await old.ended() == 0, old.log.read_text()[-4000:]
    assert await calls.states() == [("closed", "ended_by_api")] * len(calls.begun)


async def _everything_is_committed(dsn: str, load: Load, known: set[str]) -> None:
    """Wait until the log has all events; once, in order, densely numbered; and only known sessions."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(UNTIL_COMMITTED_SECONDS):
            while missing := await _missing(connection, load, known):
                last = missing
                await asyncio.sleep(0.1)
        assert await connection.fetchval("select count(*) from dead_letters") == 0
    except TimeoutError:
        raise AssertionError(f"not in the log: {last[:10]}") from None
    finally:
        await connection.close()


async def _missing(connection: asyncpg.Connection, load: Load, known: set[str]) -> list[str]:
    found: dict[str, list[asyncpg.Record]] = {}
    for row in await connection.fetch(EVENTS):
        found.setdefault(row["session_id"], []).append(row)
    assert found.keys() <= known, "sessions that no client was told of"
    missing = []
    for session_id, published in load.published.items():
        rows = found.get(session_id, [])
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        ids = [row["event_id"] for row in rows]
        assert len(set(ids)) == len(ids)
        own = [each for each in ids if each in set(published)]
        assert own == published[: len(own)]
        missing += published[len(own) :]
        types = {row["type"] for row in rows}
        missing += [f"{session_id} {kind}" for kind in sorted({*EVENTS_OF_THE_API, WEBHOOK} - types)]
    return missing


async def _everything_has_ended(url: str, load: Load) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        for session_id, published in load.published.items():
            async with asyncio.timeout(UNTIL_COMMITTED_SECONDS):
                while True:  # the views follow the log
                    session = (await client.get(f"/v1/sessions/{session_id}")).json()
                    if session.get("status") == "closed":
                        break
                    await asyncio.sleep(0.1)
            assert session["turns"] == len(published) - 3  # joined, ready and closed are no turns
