"""A typed consumer handles each event at least once, in the order of its session, and loses none."""

import asyncio
import base64
import logging
import subprocess
import sys

import msgspec
import pytest
from tests.chassis.bus.consumers import (
    dead_letters,
    publish,
    raw,
    running,
    session,
    tool,
    until,
)

from antiphon.chassis.bus import Bus, BusUnavailable, DefinitionMismatch, Outgoing, outgoing
from antiphon.chassis.bus.typed_consumer import Start, TypedConsumer
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.events.session import SessionClosed
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.subjects import PROBE, event_subject

SHORT = (0.05, 0.05)


def collecting(name: str, server: NatsServer, seen: list[str], **options: object) -> TypedConsumer:
    """Return a consumer that notes the ids of the events of its type."""
    consumer = TypedConsumer(name, server.url, **options)  # type: ignore[arg-type]

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        assert event.call_id == f"call-{envelope.id.rpartition(':')[2]}"
        seen.append(envelope.id)

    return consumer


async def test_events_of_sessions_come_typed_and_in_order(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    ids = {session(n): await publish(bus, 20, session(n)) for n in range(5)}
    seen: list[str] = []
    consumer = collecting(name, nats_server, seen)

    async with running(consumer):
        await until(lambda: len(seen) == 100)
        ids[session(0)] += await publish(bus, 5, session(0), first=20)
        await until(lambda: len(seen) == 105)
        assert await consumer.pending() == 0
        assert await consumer.ready() == ""

    for session_id, expected in ids.items():
        assert [each for each in seen if each.startswith(session_id)] == expected
    assert consumer.counts["tool.started", "handled"] == 105


async def test_a_restarted_consumer_goes_on_where_it_was(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen: list[str] = []
    for round_number in range(3):
        await publish(bus, 5, first=5 * round_number)
        async with running(collecting(name, nats_server, seen)):
            await until(lambda: len(seen) == 5 * (round_number + 1))  # noqa: B023
    assert seen == [tool(number).id for number in range(15)]


async def test_a_consumer_from_now_skips_what_was_before(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    await publish(bus, 5)
    seen: list[str] = []
    async with running(collecting(name, nats_server, seen, start=Start.NOW)):
        await publish(bus, 3, first=5)
        await until(lambda: len(seen) == 3)
    await publish(bus, 1, first=8)  # while it is away: it is the same durable
    async with running(collecting(name, nats_server, seen, start=Start.NOW)):
        await until(lambda: len(seen) == 4)
    assert seen == [tool(number).id for number in (5, 6, 7, 8)]


async def test_two_processes_share_the_work_and_keep_the_order(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen: list[str] = []
    one, other = collecting(name, nats_server, seen), collecting(name, nats_server, seen)
    async with running(one), running(other):
        for n in range(4):
            await publish(bus, 25, session(n))
        await until(lambda: len(seen) == 100)
    for n in range(4):
        mine = [each for each in seen if each.startswith(session(n))]
        assert mine == [tool(number, session(n)).id for number in range(25)]


async def test_a_handler_that_raises_is_called_again_and_holds_up_its_session(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    calls: list[str] = []
    consumer = TypedConsumer(name, nats_server.url, retries=SHORT)

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        calls.append(event.call_id)
        if calls.count("call-1") < 3 and event.call_id == "call-1":
            raise RuntimeError("not yet")

    await publish(bus, 4)
    async with running(consumer):
        await until(lambda: len(calls) == 6)
    assert calls == ["call-0", "call-1", "call-1", "call-1", "call-2", "call-3"]
    assert await dead_letters(bus, name) == []


async def test_after_the_last_attempt_the_event_is_a_dead_letter(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    calls: list[str] = []
    consumer = TypedConsumer(name, nats_server.url, retries=SHORT)

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        calls.append(event.call_id)
        if event.call_id == "call-1":
            raise RuntimeError("never: ä\nline")

    await publish(bus, 3)
    async with running(consumer):
        await until(lambda: "call-2" in calls)
    assert calls == ["call-0", "call-1", "call-1", "call-1", "call-2"]
    (letter,) = await dead_letters(bus, name)
    assert base64.b64decode(letter["data"]) == encode(tool(1))
    headers = base64.b64decode(letter["hdrs"]).decode()
    assert "Antiphon-Reason: RuntimeError: never: ? line\r\n" in headers
    assert f"Antiphon-Subject: {event_subject('default', session(0), 'tool')}\r\n" in headers
    assert "Antiphon-Position: 2\r\n" in headers
    assert "Antiphon-Deliveries: 3\r\n" in headers
    state = await bus.stream_state()
    assert state is not None
    assert state.messages == 3  # the stream of events is as before


async def test_an_event_waits_while_no_dead_letter_can_be_stored(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen: list[str] = []
    consumer = collecting(name, nats_server, seen, retries=SHORT)
    await bus.publish(raw(b"{", "bad"))
    await publish(bus, 1)
    await bus.connection.api(
        f"STREAM.CREATE.DEAD_{name}",
        {"name": f"DEAD_{name}", "subjects": [f"dead.{name}"], "max_msgs": 1, "discard": "new"},
    )
    await bus.connection.request(f"dead.{name}", b"full")
    async with running(consumer):
        await until(lambda: consumer.counts["other", "retried"] > 2)
        assert seen == []
        assert "is no dead letter" in await consumer.ready()
        await bus.connection.api(f"STREAM.PURGE.DEAD_{name}")
        await until(lambda: len(seen) == 1)
        assert await consumer.ready() == ""


async def test_an_outage_of_what_the_handler_needs_makes_no_dead_letters(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    calls: list[str] = []
    consumer = TypedConsumer(name, nats_server.url, retries=(0.02,), transient=(ConnectionError,))

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        calls.append(event.call_id)
        if len(calls) < 8:
            raise ConnectionError("the database is away")

    await publish(bus, 2)
    async with running(consumer):
        await until(lambda: "call-1" in calls)
    assert calls == ["call-0"] * 8 + ["call-1"]
    assert await dead_letters(bus, name) == []


async def test_a_handler_that_hangs_is_ended(bus: Bus, nats_server: NatsServer, name: str) -> None:
    calls: list[str] = []
    consumer = TypedConsumer(name, nats_server.url, retries=(0.05,), handler_seconds=0.2)

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        calls.append(event.call_id)
        if event.call_id == "call-0":
            await asyncio.sleep(3600)

    await publish(bus, 2)
    async with running(consumer):
        await until(lambda: "call-1" in calls)
    assert calls == ["call-0", "call-0", "call-1"]
    assert len(await dead_letters(bus, name)) == 1


async def test_unknown_types_and_newer_versions_reach_their_handler(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    await _publish_unknown(bus)
    unknown: list[str] = []
    consumer = collecting(name, nats_server, [])

    @consumer.on_unknown
    async def newer(envelope: Envelope) -> None:
        unknown.append(envelope.type)

    async with running(consumer):
        await until(lambda: len(unknown) == 13)
    assert sorted(set(unknown)) == ["of.tomorrow", "tool.started"]


async def test_without_a_handler_unknown_events_are_counted_in_the_log(
    bus: Bus, nats_server: NatsServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await _publish_unknown(bus)
    await publish(bus, 1)
    seen: list[str] = []
    consumer = collecting(name, nats_server, seen)
    with caplog.at_level(logging.WARNING):
        async with running(consumer):
            await until(lambda: seen)
    lines = [record.getMessage() for record in caplog.records if "unknown_event" in record.getMessage()]
    assert [line.split()[1:3] for line in lines] == [
        ["type='of.tomorrow'", "count=1"],
        ["type='of.tomorrow'", "count=10"],
        ["type='tool.started'", "count=1"],
    ]
    assert consumer.counts["other", "unknown"] == 13


async def _publish_unknown(bus: Bus) -> None:
    tomorrow = msgspec.structs.replace(tool(0), type="of.tomorrow")
    for number in range(12):
        event = msgspec.structs.replace(tomorrow, id=f"tomorrow-{number}")
        await bus.publish(raw(encode(event), event.id))
    newer = msgspec.structs.replace(tool(0), id="newer", dataschema="https://antiphon.dev/schemas/x/99")
    await bus.publish(raw(encode(newer), newer.id))


async def test_only_what_the_handlers_need_is_delivered(bus: Bus, nats_server: NatsServer, name: str) -> None:
    await bus.publish(Outgoing(PROBE, b"", "probe"))
    await bus.publish(outgoing(tool(0)))
    consumer = TypedConsumer(name, nats_server.url, tenant="another")

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        raise AssertionError

    async with running(consumer):
        info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.{name}-3")
        assert info["config"]["filter_subjects"] == ["sessions.3.another.*.tool"]
        assert await consumer.pending() == 0


async def test_more_handlers_change_the_filter_of_the_durable(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen: list[str] = []
    async with running(collecting(name, nats_server, seen)):
        await publish(bus, 1)
        await until(lambda: seen)
    wider = collecting(name, nats_server, seen)

    @wider.on(SessionClosed)
    async def closed(event: SessionClosed, envelope: Envelope) -> None:
        raise AssertionError

    async with running(wider):
        info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.{name}-3")
        assert info["config"]["filter_subjects"] == ["sessions.3.*.*.session", "sessions.3.*.*.tool"]
        await publish(bus, 1, first=1)
        await until(lambda: len(seen) == 2)


async def test_the_consumers_of_others_are_left_alone(bus: Bus, nats_server: NatsServer) -> None:
    for taken in ("ingest", "ingest-3", "a.b", "", "x" * 49, "ä"):
        with pytest.raises(ValueError, match="name"):
            TypedConsumer(taken, nats_server.url)
    await bus.connection.api(
        "CONSUMER.CREATE.SESSIONS.theirs-0",
        {"stream_name": "SESSIONS", "config": {"durable_name": "theirs-0", "name": "theirs-0"}},
    )
    consumer = collecting("theirs", nats_server, [])
    with pytest.raises(DefinitionMismatch, match="theirs-0"):
        await consumer.broker.start()
    await consumer.broker.stop()
    await bus.connection.api("STREAM.DELETE.DEAD_theirs")


async def test_wrong_use_is_refused_with_a_reason(bus: Bus, nats_server: NatsServer, name: str) -> None:
    with pytest.raises(ValueError, match="at least one delay"):
        TypedConsumer(name, nats_server.url, retries=())
    with pytest.raises(ValueError, match="yesterday"):
        TypedConsumer(name, nats_server.url, start="yesterday")
    consumer = collecting(name, nats_server, [])
    with pytest.raises(ValueError, match="has a handler already"):
        consumer.on(ToolStarted)(consumer._handlers["tool.started"])
    with pytest.raises(TypeError, match="async function"):
        consumer.on(SessionClosed)(lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(BusUnavailable, match="has not started"):
        await consumer.ready()
    empty = TypedConsumer(name, nats_server.url)
    with pytest.raises(ValueError, match="has no handlers"):
        await empty.broker.start()
    await empty.broker.stop()


def test_the_bus_does_not_need_faststream_and_says_what_does() -> None:
    program = (
        "import sys; sys.modules['faststream'] = None\n"
        "import antiphon.chassis.bus, antiphon.recorder\n"
        "try:\n    import antiphon.chassis.bus.typed_consumer\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "typed consumers need FastStream: pip install 'antiphon-chassis[faststream]'\n"
