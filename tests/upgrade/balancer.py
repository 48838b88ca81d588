"""A balancer of connections: each goes to the next replica of its list, and nothing is tried again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from tests.upgrade.replicas import LOOPBACK, Replica

LOOK_SECONDS = 0.5  # between two looks at the readiness of the replicas
UNREADY_LOOKS = 2  # in a row, after which a replica gets no connection: one may be an accident


class Balancer:
    """Connections from a port to replicas: those that were ready when it looked last."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refused: list[str] = []  # connections that a replica did not take
        self._replicas: list[Replica] = []
        self._ready: list[Replica] = []
        self._unready: dict[int, int] = {}  # looks in a row, by port
        self._next = 0
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls, port: int) -> AsyncIterator[Self]:
        """Listen until the end of the block."""
        balancer = cls(port)
        server = await asyncio.start_server(balancer._accept, LOOPBACK, port)
        looking = asyncio.create_task(balancer._look(), name="balancer")
        try:
            yield balancer
        finally:
            server.close()
            tasks = (looking, *balancer._connections)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, replica: Replica) -> None:
        """Send connections to a replica that is ready."""
        self._replicas.append(replica)
        self._ready.append(replica)

    def remove(self, replica: Replica) -> None:
        """Send no new connection to a replica."""
        self._replicas.remove(replica)
        with suppress(ValueError):
            self._ready.remove(replica)

    async def until_unused(self, replica: Replica) -> None:
        """Wait until it has noticed that a replica is not ready."""
        async with asyncio.timeout(60):
            while replica in self._ready:  # noqa: ASYNC110 - the next look tells
                await asyncio.sleep(0.02)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            looked = list(self._replicas)
            ready = await asyncio.gather(*(replica.is_ready() for replica in looked))
            for each, is_ready in zip(looked, ready, strict=True):
                self._unready[each.port] = 0 if is_ready else self._unready.get(each.port, 0) + 1
            self._ready = [each for each in self._replicas if self._unready.get(each.port, 0) < UNREADY_LOOKS]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with suppress(asyncio.CancelledError):  # at the end; a callback of asyncio would log it
            await self._join(reader, writer)
        writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._ready:
            self.refused.append("no replica is ready")
            return
        replica = self._ready[self._next % len(self._ready)]
        self._next += 1
        try:
            from_replica, to_replica = await asyncio.open_connection(LOOPBACK, replica.port)
        except OSError as error:
            self.refused.append(f"{replica.log.stem}: {error}")
            return
        try:
            await asyncio.gather(_copy(reader, to_replica), _copy(from_replica, writer))
        finally:
            to_replica.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
