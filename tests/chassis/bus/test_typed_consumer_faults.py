"""What FastStream's own pull subscribers do wrong on JetStream, a typed consumer does right."""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from faststream.nats.opentelemetry import NatsTelemetryMiddleware
from faststream.nats.prometheus import NatsPrometheusMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from tests.chassis.bus.consumers import dead_letters, publish, raw, running, session, tool, until
from tests.fixtures.raw_nats import RawPublisher

from antiphon.chassis.bus import Bus, BusUnavailable, outgoing
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.subjects import event_subject

QUIET_SECONDS = 2.0
MOST_REQUESTS = 200  # in that time, of all 16 partitions; FastStream's own loop sends thousands


class Seen:
    """The events that a consumer has handled; some calls raise first."""

    def __init__(self, name: str, server: NatsServer, *, failures: int = 0, **options: object) -> None:
        self.ids: list[str] = []
        self.failures = failures
        self.consumer = TypedConsumer(name, server.url, retries=(0.05,) * 3, **options)  # type: ignore[arg-type]
        self.consumer.on(ToolStarted)(self._handle)

    async def _handle(self, _: ToolStarted, envelope: Envelope) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("the database is down")
        self.ids.append(envelope.id)


@contextmanager
def beating() -> Iterator[list[float]]:
    """Note the time in the event loop, ten times a second: while it is frozen, nothing is noted."""
    loop = asyncio.get_running_loop()
    beats = [loop.time()]

    def beat() -> None:
        beats.append(loop.time())
        if not over:
            loop.call_later(0.1, beat)

    over = False
    loop.call_later(0.1, beat)
    try:
        yield beats
    finally:
        over = True


async def unready(consumer: TypedConsumer) -> str:
    """Wait until the consumer says that it does not read; return why."""
    async with asyncio.timeout(60):
        while True:
            try:
                await consumer.ready()
            except BusUnavailable as error:
                return str(error)
            await asyncio.sleep(0.01)


async def ready(consumer: TypedConsumer) -> None:
    """Wait until the consumer says that it reads."""
    async with asyncio.timeout(60):
        while True:
            with suppress(BusUnavailable):
                await consumer.ready()
                return
            await asyncio.sleep(0.05)


# 1: the default policy gives up every event of a batch for which a handler raises.
async def test_no_event_is_given_up_because_a_handler_raised(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    ids = await publish(bus, 50)
    seen = Seen(name, nats_server, failures=3)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 50)
    assert seen.ids == ids


class Sudden(BaseException):
    """Neither an Exception nor a wish to end the process."""


async def _cancelled_inside() -> None:
    inner = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(inner.cancel)
    await inner


async def _cancelled() -> None:
    raise asyncio.CancelledError


async def _exit() -> None:
    raise GeneratorExit


async def _sudden() -> None:
    raise Sudden


@pytest.mark.parametrize("fail", [_cancelled_inside, _cancelled, _exit, _sudden])
async def test_a_handler_that_ends_in_any_way_does_not_stop_its_partition(
    bus: Bus, nats_server: NatsServer, name: str, fail: Callable[[], Awaitable[None]]
) -> None:
    seen: list[str] = []
    calls: Counter[str] = Counter()
    consumer = TypedConsumer(name, nats_server.url, retries=(0.05, 0.05))
    ids = await publish(bus, 6)

    @consumer.on(ToolStarted)
    async def handle(_: ToolStarted, envelope: Envelope) -> None:
        calls[envelope.id] += 1
        if envelope.id == ids[2] and calls[envelope.id] == 1:
            await fail()
        if envelope.id == ids[4]:
            await fail()
        seen.append(envelope.id)

    async with running(consumer):
        await until(lambda: len(seen) == 5)
        letters = await dead_letters(bus, name)
    assert seen == [*ids[:4], ids[5]]
    assert calls == dict.fromkeys(ids, 1) | {ids[2]: 2, ids[4]: 3}
    assert len(letters) == 1


async def test_a_stop_in_the_middle_of_a_handler_is_no_failure_of_it(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    consumer = TypedConsumer(name, nats_server.url, retries=(0.05,))
    begun: asyncio.Future[asyncio.Task[object]] = asyncio.get_running_loop().create_future()
    seen: list[str] = []
    await publish(bus, 1)

    @consumer.on(ToolStarted)
    async def handle(_: ToolStarted, envelope: Envelope) -> None:
        if not begun.done():
            task = asyncio.current_task()
            assert task is not None
            begun.set_result(task)
            await asyncio.Event().wait()
        seen.append(envelope.id)

    async with running(consumer):
        async with asyncio.timeout(60):
            task = await begun
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=60)
        assert task.cancelled()
        assert not consumer.counts
        assert await dead_letters(bus, name) == []
    assert seen == []


# 2: one message that is no JSON takes its batch with it, or is delivered again without pause.
async def test_a_message_that_is_no_event_is_set_aside_alone(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    ids = await publish(bus, 25)
    await bus.publish(raw(b'{"type": ', "half"))
    await bus.publish(raw(b"\xff\x00[", "bytes"))
    await bus.publish(raw(b"[" * 50_000, "deep"))
    await bus.publish(raw(encode(tool(1, session(7))), "on the subject of another session"))
    ids += await publish(bus, 25, first=25)
    seen = Seen(name, nats_server)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 50)
        info = await bus.connection.api(f"CONSUMER.INFO.SESSIONS.{name}-{_partition()}")
    assert seen.ids == ids
    assert len(await dead_letters(bus, name)) == 4
    assert info["delivered"]["consumer_seq"] == 54  # none was delivered twice


# 3: without its durable FastStream asks thousands of times a second, and says nothing.
async def test_a_deleted_durable_is_noticed_and_made_again_where_it_was(
    bus: Bus, nats_server: NatsServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await publish(bus, 10)
    seen = Seen(name, nats_server)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 10)
        with caplog.at_level(logging.INFO):
            await bus.connection.api(f"CONSUMER.DELETE.SESSIONS.{name}-{_partition()}")
            ids += await publish(bus, 10, first=10)
            await until(lambda: len(seen.ids) == 20)
        await ready(seen.consumer)
    assert seen.ids == ids  # nothing lost, nothing again
    assert any("consumer.not_reading" in record.getMessage() for record in caplog.records)


async def test_without_the_stream_it_asks_seldom_and_is_not_ready(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen = Seen(name, nats_server)
    await publish(bus, 1)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 1)
        await bus.connection.api("STREAM.DELETE.SESSIONS")
        assert name in await unready(seen.consumer)
        sent = seen.consumer.broker.events.client.stats["out_msgs"]
        await asyncio.sleep(QUIET_SECONDS)
        assert seen.consumer.broker.events.client.stats["out_msgs"] - sent < MOST_REQUESTS
        await bus.ensure()  # positions start again
        ids = await publish(bus, 3, first=1)
        await until(lambda: len(seen.ids) == 4)
        await ready(seen.consumer)
    assert seen.ids[1:] == ids


@pytest.mark.parametrize("count", [5, 40], ids=["shorter", "longer"])
async def test_a_stream_that_was_made_again_is_read_from_its_start_however_long_it_is(
    bus: Bus, nats_server: NatsServer, name: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishers bring it beyond the last position before the consumer looks."""
    await publish(bus, 20)
    seen = Seen(name, nats_server)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 20)
        await bus.connection.api("STREAM.DELETE.SESSIONS")
        await bus.ensure()
        ids = await publish(bus, count, first=1000)
        await until(lambda: len(seen.ids) >= 20 + count)
        await ready(seen.consumer)
    assert seen.ids[20:] == ids
    assert any("consumer.stream_replaced" in record.getMessage() for record in caplog.records)


# 4: after the connection has been closed for good FastStream's loop never lets another task run.
async def test_a_connection_that_is_closed_for_good_does_not_freeze_the_loop(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen = Seen(name, nats_server)
    async with running(seen.consumer):
        with beating() as beats:
            await seen.consumer.broker.events.client.close()
            await seen.consumer.broker.connection.close()
            await asyncio.sleep(QUIET_SECONDS)
            assert len(beats) > 3
        ids = await publish(bus, 3)
        await until(lambda: len(seen.ids) == 3)
        async with asyncio.timeout(60):
            # FastStream's own connection stays closed
            while "handlers publish" not in await unready(seen.consumer):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert seen.ids == ids


async def test_an_outage_of_the_server_of_any_length_is_survived(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    ids = await publish(bus, 3)
    seen = Seen(name, nats_server)
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 3)
        nats_server.stop()
        with beating() as beats:
            await unready(seen.consumer)
            await asyncio.sleep(QUIET_SECONDS)
            assert len(beats) > 3
        nats_server.start()
        await bus.connection.connected.wait()
        ids += await publish(bus, 3, first=3)
        await until(lambda: len(seen.ids) >= 6)
        await ready(seen.consumer)
    assert seen.ids == ids
    assert seen.consumer.broker._connection_kwargs["max_reconnect_attempts"] == -1


@pytest.mark.embedded_servers
@pytest.mark.parametrize("hangs", [False, True], ids=["is away", "hangs"])
async def test_it_stops_in_time_while_the_server_does_not_answer(
    bus: Bus, nats_server: NatsServer, name: str, hangs: bool
) -> None:
    seen = Seen(name, nats_server)
    await seen.consumer.broker.start()
    await bus.connection.round_trip()
    assert nats_server.process is not None
    if hangs:
        os.kill(nats_server.process.pid, signal.SIGSTOP)
    else:
        nats_server.stop()
    try:
        await unready(seen.consumer)
        async with asyncio.timeout(60):
            with pytest.raises(BusUnavailable):
                await seen.consumer.pending()
            await seen.consumer.broker.stop()
    finally:
        if hangs:
            os.kill(nats_server.process.pid, signal.SIGCONT)
        else:
            nats_server.start()
    await bus.connection.connected.wait()


# 5: `stream=` makes FastStream write its own defaults over the configuration of the stream.
async def test_the_stream_stays_as_it_is_configured(bus: Bus, nats_server: NatsServer, name: str) -> None:
    before = (await bus.connection.api("STREAM.INFO.SESSIONS"))["config"]
    async with running(Seen(name, nats_server).consumer):
        await publish(bus, 1)
    assert (await bus.connection.api("STREAM.INFO.SESSIONS"))["config"] == before
    await bus.verify()


# 6: labels and span names are subjects, one for each session.
async def test_metrics_and_spans_have_the_subject_of_the_partition(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    registry, spans, provider = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    middlewares = (
        NatsPrometheusMiddleware(registry=registry),
        NatsTelemetryMiddleware(tracer_provider=provider),
    )
    seen = Seen(name, nats_server, middlewares=middlewares)
    for number in range(30):
        await publish(bus, 1, session(number))
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 30)
    metrics = generate_latest(registry).decode()
    assert 'handler="sessions.' in metrics
    assert "ses_" not in metrics
    assert spans.get_finished_spans()
    for span in spans.get_finished_spans():
        assert "ses_" not in span.name
        assert "ses_" not in str(dict(span.attributes or {}))
    assert len(seen.consumer.counts) == 1


async def test_subjects_and_headers_of_any_bytes_do_not_end_the_reading(
    bus: Bus, nats_server: NatsServer, name: str
) -> None:
    seen = Seen(name, nats_server)
    subject = event_subject("default", session(0), "tool").encode()
    publisher = RawPublisher(nats_server.port)
    publisher.publish(subject.replace(b"default", b"\xff\xfe"), b"x")
    publisher.publish(subject.replace(b"default", b"a\x0bb"), b"x")
    publisher.publish(subject, encode(tool(0)), b"NATS/1.0\r\n\xff: \xfe\r\n\r\n")
    publisher.close()
    await bus.publish(outgoing(tool(1)))
    async with running(seen.consumer):
        await until(lambda: len(seen.ids) == 2)
    assert len(await dead_letters(bus, name)) == 2


def _partition() -> int:
    return int(event_subject("default", session(0), "tool").split(".")[1])
