"""The services do their work on a broker that permits each only its own."""

from typing import Any

import pytest
from tests.chassis.bus.consumers import publish, running, session, tool, until
from tests.fixtures.locked_nats import CONSUMER, LockedServer, connected

from antiphon.chassis.bus import Bus, NotPermitted, outgoing
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.chassis.deployment import deployment_of
from antiphon.chassis.nats_users import OPERATOR
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.flows import FLOW_CHECK, FLOW_CHECKERS
from antiphon.contracts.streams import DEPLOYMENT, ROOMS, ingest_consumer
from antiphon.contracts.subjects import (
    committed_filter,
    committed_subject,
    event_subject,
    partition_of,
    session_filter,
)
from antiphon.contracts.workers import ALL_WORKERS, worker_subject


async def test_the_services_work_together(locked_server: LockedServer, operator: Bus) -> None:
    async with connected(
        locked_server, "persistence", "session-api", "webhook-ingest", "agent-worker"
    ) as buses:
        persistence, api, hooks, agent = buses
        await persistence.ensure(max_bytes=1 << 30)
        identity = await deployment_of(api)
        await api.verify()
        await hooks.verify(buckets=(ROOMS, DEPLOYMENT))  # those that it may look at
        for bus in (api, hooks):
            await bus.publishable()
        assert await deployment_of(agent) == await deployment_of(hooks) == identity
        keys = await (await api.bucket("keys")).watch()
        flows = await (await agent.bucket("flows")).watch()
        await (await api.bucket("keys")).put("digest", b"key")
        await (await api.bucket("flows")).create("default.booking.1", b"flow")
        await until(lambda: keys.get("digest") == b"key" and flows.get("default.booking.1") == b"flow")
        await keys.ready()
        await keys.close()
        await flows.close()

        live = await api.subscribe(session_filter("default", session(7)))
        committed = await api.subscribe(committed_filter(partition_of(session(7))))
        ids = [tool(number, session(7)) for number in range(5)]
        await agent.publish_many([outgoing(event) for event in ids])
        assert await live.next(10) is not None
        assert len([one async for one in agent.read(event_subject("*", session(7), "tool"))]) == 5
        consumer = ingest_consumer(partition_of(session(7)))
        await persistence.reset_consumer(consumer, 1)
        async with persistence.pull(consumer) as puller:
            found = await puller.next()
            await puller.ack_through(found[-1])
        await persistence.announce(committed_subject("default", session(7)), b"done")
        assert await committed.next(10) == (committed_subject("default", session(7)), b"done")


async def test_flow_checks_and_heartbeats_cross_accounts(locked_server: LockedServer, operator: Bus) -> None:
    async def answer(payload: bytes) -> bytes:
        return payload.upper()

    async with connected(locked_server, "agent-worker", "session-api", "fleet") as (agent, api, fleet):
        heartbeats = await fleet.subscribe(ALL_WORKERS)
        await agent.announce(worker_subject("w1"), b"alive")
        assert await heartbeats.next(10) == (worker_subject("w1"), b"alive")
        responder = await agent.serve(FLOW_CHECK, answer, group=FLOW_CHECKERS, deadline_seconds=10)
        assert await api.request(FLOW_CHECK, b"flow") == b"FLOW"
        await responder.close()


async def test_a_consumer_reads_through_durables_that_the_operator_has_made(
    locked_server: LockedServer, operator: Bus
) -> None:
    seen: list[str] = []

    def consumer(user: str) -> TypedConsumer:
        found = TypedConsumer(CONSUMER, locked_server.access(user))

        @found.on(ToolStarted)
        async def started(event: ToolStarted, envelope: Any) -> None:
            seen.append(envelope.id)

        return found

    async with running(consumer(OPERATOR)):
        pass
    ids = await publish(operator, 5, session(3))
    async with running(consumer(f"consumer-{CONSUMER}")):
        await until(lambda: set(ids) <= set(seen))
    with pytest.raises(NotPermitted, match=r"CONSUMER\.CREATE"):
        async with connected(locked_server, f"consumer-{CONSUMER}") as bus:
            await bus.connection.api(f"CONSUMER.CREATE.SESSIONS.{CONSUMER}-0", {})
