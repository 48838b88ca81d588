"""Messages to publish, and a network between client and server that can fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
from tests.fixtures.locked_nats import LockedServer, connected

from antiphon.chassis.bus import Bus, Outgoing
from antiphon.chassis.nats_users import OPERATOR
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.subjects import event_subject

SESSION = "ses_00000000000000000000000001"

MessageOf = Callable[..., Outgoing]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


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
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - the condition may be anything
                await asyncio.sleep(0.005)

    return wait


class Network:
    """A TCP proxy in front of a server: it can drop answers and break connections."""

    def __init__(self, target_port: int) -> None:
        self.drop_answers = False
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
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, server_writer}
        for source, target, is_answer in ((reader, server_writer, False), (server_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, target, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not (is_answer and self.drop_answers):
                    target.write(data)
                    await target.drain()
        target.close()
        self._writers.discard(target)


@pytest.fixture
async def network(nats_server: NatsServer) -> AsyncIterator[Network]:
    """A network proxy in front of the NATS server."""
    network = Network(nats_server.port)
    await network.open()
    yield network
    await network.close()


@pytest.fixture
async def far_bus(bus: Bus, network: Network) -> AsyncIterator[Bus]:
    """A second bus on the same server, behind the network proxy."""
    far = await Bus.connect(network.url, name="far")
    yield far
    await far.close()


@pytest.fixture(scope="session")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedServer]:
    server = LockedServer(tmp_path_factory.mktemp("locked") / "nats")
    server.launch()
    yield server
    server.stop()


@pytest.fixture
async def operator(locked_server: LockedServer) -> AsyncIterator[Bus]:
    """The operator; streams and buckets are there, and the durables of the consumer."""
    async with connected(locked_server, OPERATOR) as bus:
        await bus.ensure()
        yield bus
