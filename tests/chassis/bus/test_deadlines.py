"""Every await of the bus ends, also when the server or the network hangs with its connections open."""

import asyncio
import inspect
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import pytest

from antiphon.chassis.bus import (
    Bucket,
    Bus,
    BusError,
    BusUnavailable,
    GroupCommit,
    Incoming,
    Outgoing,
    Puller,
    Responder,
    StreamFull,
    Subscription,
    WatchedBucket,
    read,
)
from antiphon.chassis.bus.messages import Ack
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.streams import ingest_consumer

# The longest documented deadline is that of `ensure`, a minute; the machine may be busy.
BOUND_SECONDS = 90.0
CONSUMER = ingest_consumer(3)
SUBJECT = "sessions.3.default.ses_1.turn"

Call = Callable[[], Awaitable[object]]


class HungNetwork:
    """A proxy that goes silent: it keeps its connections, and passes nothing on."""

    def __init__(self, target_port: int) -> None:
        self.silent = asyncio.Event()
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.silent.is_set():
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers.append(server_writer)
        for source, target in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.silent.is_set():
                await asyncio.Event().wait()  # and read no more
            target.write(data)


class Hung:
    """A bus, and what was opened before its server hung."""

    def __init__(self, url: str, bus: Bus) -> None:
        self.url = url
        self.bus = bus

    async def open(self) -> None:
        await self.bus.publish(Outgoing(SUBJECT, b"1", ""))
        self.puller = await self.bus.pull(CONSUMER).__aenter__()
        self.pulled: Incoming = (await self.puller.next())[0]
        self.subscription = await self.bus.subscribe("live.a")
        self.bucket = await self.bus.bucket("keys")
        self.watched = await self.bucket.watch()
        self.group = GroupCommit(self.bus)
        self.responder = await self.bus.serve("asked.a", _echo, group="g", deadline_seconds=1)

    def calls(self) -> dict[str, Call]:
        """Return a call of every method that waits, by class and name."""
        bus, bucket, watched, puller = self.bus, self.bucket, self.watched, self.puller
        message = Outgoing(SUBJECT, b"2", "id-2")
        return {
            "Bus.connect": partial(Bus.connect, self.url, connect_timeout_seconds=2),
            "Bus.publish": partial(bus.publish, message),
            "Bus.publish_many": partial(bus.publish_many, [message, message, message]),
            "Bus.reset_consumer": partial(bus.reset_consumer, CONSUMER, 1),
            "Bus.read": self._read,
            "Bus.all_messages": self._read_all,
            "Bus.last": partial(bus.last, "sessions.3.>"),
            "Bus.first_after": partial(bus.first_after, "sessions.3.>", 0),
            "Bus.announce": self._announce,
            "Bus.subscribe": partial(bus.subscribe, "live.b"),
            "Bus.request": partial(bus.request, "asked.a", b"", timeout_seconds=2),
            "Bus.serve": partial(bus.serve, "asked.b", _echo, group="g", deadline_seconds=1),
            "Responder.start": partial(Responder(bus.connection, "asked.c", _echo, 1).start, "g"),
            "Responder.ready": self.responder.ready,
            "Bus.ensure": bus.ensure,
            "Bus.ensure_buckets": bus.ensure_buckets,
            "Bus.ensure_consumer": partial(bus.ensure_consumer, CONSUMER),
            "Bus.stream_state": bus.stream_state,
            "Bus.payload_at": partial(bus.payload_at, 1),
            "Bus.delivered_all": partial(bus.delivered_all, CONSUMER, 1),
            "Bus.undelivered": partial(bus.undelivered, CONSUMER),
            "Bus.unacknowledged": partial(bus.unacknowledged, CONSUMER),
            "Bus.verify": bus.verify,
            "Bus.ready": bus.ready,
            "Bus.publishable": bus.publishable,
            "Bus.bucket": partial(bus.bucket, "flows"),
            "Bus.has_bucket": partial(bus.has_bucket, "flows"),
            "Bucket.get": partial(bucket.get, "a"),
            "Bucket.entry": partial(bucket.entry, "a"),
            "Bucket.update": partial(bucket.update, "a", b"", 1),
            "Bucket.put": partial(bucket.put, "a", b""),
            "Bucket.create": partial(bucket.create, "a", b""),
            "Bucket.delete": partial(bucket.delete, "a"),
            "Bucket.keys": bucket.keys,
            "Bucket.entries": self._entries,
            "Bucket.entries_after": self._entries_after,
            "Bucket.revision_before": partial(bucket.revision_before, "*", datetime.now(UTC)),
            "Bucket.purge_removed": partial(bucket.purge_removed, datetime.now(UTC)),
            "Bucket.watch": bucket.watch,
            "GroupCommit.publish": self._commit_groups,
            "Puller.__aenter__": self.bus.pull(ingest_consumer(4)).__aenter__,
            "Puller.next": puller.next,
            "Puller.ack_through": partial(puller.ack_through, self.pulled),
            "Subscription.next": partial(self.subscription.next, 1.0),
            "Subscription.__aiter__": self._iterate,
            "WatchedBucket.start": WatchedBucket(bus.connection, "KV_flows", "$KV.flows.").start,
            "WatchedBucket.ready": watched.ready,
        }

    def ends(self) -> dict[str, Call]:
        """Return the calls that end something; they come last."""
        return {
            "Puller.__aexit__": partial(self.puller.__aexit__, None, None, None),
            "Responder.close": self.responder.close,
            "Subscription.close": self.subscription.close,
            "WatchedBucket.close": self.watched.close,
            "Bus.close": self.bus.close,
        }

    async def _read(self) -> None:
        async for _ in self.bus.read("sessions.3.>"):
            pass

    async def _read_all(self) -> None:
        async for _ in self.bus.all_messages():
            pass

    async def _entries(self) -> None:
        async for _ in self.bucket.entries():
            pass

    async def _entries_after(self) -> None:
        async for _ in self.bucket.entries_after("*"):
            pass

    async def _announce(self) -> None:
        for _ in range(100):  # more than the buffers of the client and of the socket hold
            await self.bus.announce("live.a", b"x" * 100_000)

    async def _commit_groups(self) -> None:
        outs = [Outgoing(SUBJECT, b"%d" % n, f"group-{n}") for n in range(30)]
        results = await asyncio.gather(*map(self.group.publish, outs), return_exceptions=True)
        assert all(isinstance(result, BusError | Ack) for result in results)

    async def _iterate(self) -> None:
        other = Subscription(lambda _: None)
        closing = asyncio.create_task(_close_later(other))
        async for _ in other:
            pass
        await closing


async def _echo(payload: bytes) -> bytes:
    return payload


async def _close_later(subscription: Subscription) -> None:
    await asyncio.sleep(1)
    await subscription.close()


async def _bounded(call: Call) -> str | None:
    """Return None when the call ended with a result or an error of the bus in time."""
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            await call()
    except BusError:
        return None
    except TimeoutError:
        return "did not end"
    return None


async def _all_end(hung: Hung) -> None:
    calls = hung.calls()
    results = await asyncio.gather(*(_bounded(call) for call in calls.values()))
    assert {name: result for name, result in zip(calls, results, strict=True) if result} == {}
    for name, call in hung.ends().items():
        assert await _bounded(call) is None, name


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGCONT)
    server.kill()


@pytest.fixture
async def hung_bus(own_server: NatsServer) -> AsyncIterator[Callable[[str], Awaitable[Hung]]]:
    opened: list[Hung] = []

    async def make(url: str) -> Hung:
        bus = await Bus.connect(url, name="hung")
        await bus.ensure()
        hung = Hung(url, bus)
        await hung.open()
        opened.append(hung)
        return hung

    yield make
    for hung in opened:
        await hung.bus.close()


def test_every_method_that_waits_is_driven() -> None:
    """A method that is added needs a deadline, and a line above."""
    waiting = {
        f"{kind.__name__}.{name}"
        for kind in (Bus, Bucket, WatchedBucket, Puller, Responder, Subscription, GroupCommit)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        + inspect.getmembers(kind, inspect.ismethod)
        if (not name.startswith("_") or name in ("__aenter__", "__aexit__", "__aiter__"))
        and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
    } | {"Bus.read"}
    source = inspect.getsource(Hung.calls) + inspect.getsource(Hung.ends)
    assert {name for name in waiting if f'"{name}"' not in source} == set()


@pytest.mark.timeout(400)
async def test_every_await_ends_while_the_server_is_stopped(
    own_server: NatsServer, hung_bus: Callable[[str], Awaitable[Hung]]
) -> None:
    hung = await hung_bus(own_server.url)
    assert own_server.process is not None
    os.kill(own_server.process.pid, signal.SIGSTOP)

    await _all_end(hung)


@pytest.mark.timeout(400)
async def test_every_await_ends_while_the_network_is_silent(
    own_server: NatsServer, hung_bus: Callable[[str], Awaitable[Hung]]
) -> None:
    network = HungNetwork(own_server.port)
    hung = await hung_bus(await network.open())
    network.silent.set()

    await _all_end(hung)
    await network.close()


async def test_a_read_has_one_deadline_for_its_retries(
    own_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await Bus.connect(own_server.url)
    await bus.ensure()
    await bus.publish(Outgoing(SUBJECT, b"1", "id-1"))
    monkeypatch.setattr(read, "READ_DEADLINE_SECONDS", 0.5)
    assert own_server.process is not None

    reading = bus.read("sessions.3.>")
    assert (await anext(reading)).payload == b"1"
    os.kill(own_server.process.pid, signal.SIGSTOP)  # before it is asked for the end
    while psutil.Process(own_server.process.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
        await asyncio.sleep(0.01)

    async with asyncio.timeout(10):  # the retries alone would take 15
        with pytest.raises(BusUnavailable):
            await anext(reading)
    os.kill(own_server.process.pid, signal.SIGCONT)
    await bus.close()


async def test_many_subscribers_share_one_deadline(
    own_server: NatsServer, hung_bus: Callable[[str], Awaitable[Hung]]
) -> None:
    """They subscribe one after the other: each must not wait for the deadlines of those before it."""
    hung = await hung_bus(own_server.url)
    assert own_server.process is not None
    os.kill(own_server.process.pid, signal.SIGSTOP)

    calls = [partial(hung.bus.subscribe, f"live.{number}") for number in range(100)]
    assert set(await asyncio.gather(*map(_bounded, calls))) == {None}


@pytest.mark.parametrize("concurrent", [1, 5, 40])
async def test_a_sealed_stream_fails_every_publisher(bus: Bus, concurrent: int) -> None:
    info = await bus.connection.api("STREAM.INFO.SESSIONS")
    await bus.connection.api("STREAM.UPDATE.SESSIONS", info["config"] | {"sealed": True})
    errors = await _errors(bus, concurrent, {})

    assert {type(error) for error in errors} == {StreamFull}
    assert len({id(error) for error in errors}) == concurrent


@pytest.mark.parametrize("concurrent", [1, 5, 40])
async def test_a_refusal_reaches_every_publisher(bus: Bus, concurrent: int) -> None:
    errors = await _errors(bus, concurrent, {"Nats-Expected-Last-Sequence": "999"})

    assert all(isinstance(error, BusError) and "wrong last sequence" in str(error) for error in errors)
    assert len({id(error) for error in errors}) == concurrent


async def _errors(bus: Bus, concurrent: int, headers: dict[str, str]) -> list[Ack | BaseException]:
    group = GroupCommit(bus, timeout_seconds=2.0)
    outs = [Outgoing(SUBJECT, b"x", f"id-{number}", headers) for number in range(concurrent)]
    async with asyncio.timeout(BOUND_SECONDS):
        return await asyncio.gather(*map(group.publish, outs), return_exceptions=True)


async def test_a_mistake_of_ours_fails_the_group_and_not_the_next(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = GroupCommit(bus)

    async def too_few(*_: object, **__: object) -> list[object]:
        return []

    monkeypatch.setattr(bus, "publish_many", too_few)
    async with asyncio.timeout(BOUND_SECONDS):
        results = await asyncio.gather(
            *(group.publish(Outgoing(SUBJECT, b"x", f"id-{n}")) for n in range(40)), return_exceptions=True
        )
        later = await group.publish(Outgoing(SUBJECT, b"x", "later"))

    assert {type(result) for result in results if not isinstance(result, Ack)} == {ValueError}
    assert not later.duplicate
