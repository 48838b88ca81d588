"""What the chassis' tests share: both buses, messages to put on them, and a network that can be cut."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.chassis.testing import InMemoryBus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.subjects import event_subject, partition_of

SESSION = "ses_00000000000000000000000001"
SUBJECT = event_subject("default", SESSION, "turn")
PARTITION = partition_of(SESSION)

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture(params=["memory", "nats"])
def any_bus(request: pytest.FixtureRequest) -> Bus:
    """Each of the two buses in turn."""
    if request.param == "memory":
        return InMemoryBus()
    bus: Bus = request.getfixturevalue("bus")
    return bus


@pytest.fixture
def message() -> MessageOf:
    """Make the n-th message of a session."""

    def make(number: int, session: str = SESSION, size: int = 0) -> Outgoing:
        payload = f"{number}".encode().ljust(size)
        return Outgoing(event_subject("default", session, "turn"), payload, f"{session}:{number}")

    return make


@pytest.fixture
def until() -> Until:
    """Wait for a condition, at most ten seconds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the condition may be anything
                await asyncio.sleep(0.005)

    return wait


class Network:
    """A TCP proxy before a server, whose answers can be swallowed and whose connections can be cut."""

    def __init__(self, target_port: int) -> None:
        self.swallow_answers = False
        self.url = ""
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection that is open now."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, there_writer}
        for source, target, is_answer in ((reader, there_writer, False), (there_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, target, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not (is_answer and self.swallow_answers):
                    target.write(data)
                    await target.drain()
        target.close()
        self._writers.discard(target)


@pytest.fixture
async def network(nats_server: NatsServer) -> AsyncIterator[Network]:
    """A network between a client and the NATS server."""
    network = Network(nats_server.port)
    await network.open()
    yield network
    await network.close()


@pytest.fixture
async def far_bus(bus: Bus, network: Network) -> AsyncIterator[Bus]:
    """A second bus on the same server, behind the network."""
    far = await Bus.connect(network.url, name="far")
    yield far
    await far.close()
