"""Events read from the bus: messages that ingest will reject are left out."""

from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus, Outgoing, outgoing
from antiphon.contracts.envelope import Envelope, encode, seal
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.session import Status
from antiphon.contracts.subjects import event_subject
from antiphon.session_api.sessions.events import EventReader

SESSION = "ses_00000000000000000000000001"
REQUESTED = SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=SESSION)
READY = AgentReady(greeting="Good evening.", ready_ms=640.0)


def _sealed(event: SessionRequested | AgentReady, number: int) -> Envelope:
    return seal(
        event,
        id=f"{SESSION}:{number}",
        session_id=SESSION,
        tenant="default",
        producer="test",
        producerseq=number,
        time=datetime.now(UTC),
    )


async def _publish_raw(bus: Bus, payload: bytes, number: int) -> None:
    await bus.publish(Outgoing(event_subject("default", SESSION, "agent"), payload, f"raw:{number}"))


@pytest.fixture
async def bus(bus: Bus) -> Bus:
    """The bus with the request of one session."""
    await bus.publish(outgoing(_sealed(REQUESTED, 0)))
    return bus


async def test_session_is_the_fold_of_all_events(bus: Bus) -> None:
    await bus.publish(outgoing(_sealed(READY, 1)))

    session = await EventReader(bus).session("default", SESSION)

    assert session is not None
    assert (session.status, session.user_id) == (Status.READY, "ada")


async def test_outline_reads_only_session_events(bus: Bus) -> None:
    await bus.publish(outgoing(_sealed(READY, 1)))

    session = await EventReader(bus).outline("default", SESSION)

    assert session is not None
    assert session.status is Status.PENDING


async def test_session_of_another_tenant_is_unknown(bus: Bus) -> None:
    reader = EventReader(bus)

    assert await reader.session("other", SESSION) is None
    assert not await reader.exists("other", SESSION)


async def test_malformed_messages_are_left_out(bus: Bus) -> None:
    broken = encode(_sealed(READY, 2)).replace(b'"ready_ms":640.0', b'"ready_ms":"soon"')
    await _publish_raw(bus, b"not an envelope", 1)
    await _publish_raw(bus, broken, 2)

    events = await EventReader(bus).events("default", SESSION)

    assert [event.type for event in events] == ["session.requested"]


async def test_unknown_event_type_is_kept(bus: Bus) -> None:
    newer = encode(_sealed(READY, 1)).replace(b'"agent.ready"', b'"agent.improved"')
    await _publish_raw(bus, newer, 1)

    reader = EventReader(bus)

    assert [event.type for event in await reader.events("default", SESSION)][1] == "agent.improved"
    assert await reader.session("default", SESSION) is not None


async def test_agent_joined_after_an_agent_event(bus: Bus) -> None:
    reader = EventReader(bus)
    before = await reader.agent_joined("default", SESSION)
    await bus.publish(outgoing(_sealed(READY, 1)))

    assert (before, await reader.agent_joined("default", SESSION)) == (False, True)
