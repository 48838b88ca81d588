"""Readers that take nothing cost a server a bounded amount of memory, whatever their session has."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator

import psutil
import pytest
from tests.chassis.log.conftest import Writer
from tests.session_api.conftest import Buckets, free_port

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log.read import read_session
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import Envelope

pytestmark = pytest.mark.slow

SESSION = "ses_00000000000000000000000001"
READERS = 100
EVENTS = 1_500
LIVE = 100  # of them, which are committed and announced while they read
SIZE = 100_000
MAX_GROWTH = 120 << 20  # 1.2 MiB for each reader, of 150 MB


# The first event again, up to a sequence: a client would need minutes to insert them.
COPY = """
insert into event_log
    (session_id, sequence, partition, position, tenant, event_id, type, version, occurred_at, envelope)
select session_id, number, partition, number, tenant, number, type, version, occurred_at, envelope
from event_log, generate_series((select max(sequence) + 1 from event_log), $2::integer) as number
where session_id = $1 and sequence = 1
"""


@pytest.fixture
async def server(
    nats_server: NatsServer, postgres_dsn: str, buckets: Buckets
) -> AsyncIterator[tuple[psutil.Process, int]]:
    """A session-api in a process of its own, and its port."""
    port = free_port()
    environment = {
        **os.environ,
        "ANTIPHON_NATS_URL": nats_server.url,
        "ANTIPHON_POSTGRES_DSN": postgres_dsn,
        "ANTIPHON_API_PORT": str(port),
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon.session_api", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    yield psutil.Process(process.pid), port
    process.terminate()
    await asyncio.wait_for(process.wait(), 60)


@pytest.mark.timeout(180)
async def test_a_hundred_readers_that_take_nothing(
    server: tuple[psutil.Process, int], database: Database, bus: Bus
) -> None:
    process, port = server
    writer = Writer(database, bus)
    await writer.commit(SESSION, size=SIZE)
    await database.pool.execute(COPY, SESSION, EVENTS - LIVE)
    await _listening(port)
    readers = [await _reader(port)]
    before = process.memory_info().rss
    readers += [await _reader(port) for _ in range(READERS - 1)]
    highest = 0
    for first in range(EVENTS - LIVE + 1, EVENTS + 1, 10):
        await database.pool.execute(COPY, SESSION, first + 9)
        for number in range(first, first + 10):
            await writer.announce([await _committed(database, number)])
        await asyncio.sleep(0.1)
        highest = max(highest, process.memory_info().rss)

    for reader in readers:
        reader.close()
    assert highest - before < MAX_GROWTH, f"{(highest - before) >> 20} MiB for {READERS} readers"


async def _committed(database: Database, sequence: int) -> Envelope:
    (page, _) = await read_session(database, "default", SESSION, sequence - 1, 1)
    return page[0]


async def _listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def _reader(port: int) -> socket.socket:
    """Open a stream and read no further than to its status."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        await loop.sock_connect(reader, ("127.0.0.1", port))
        await loop.sock_sendall(
            reader,
            f"GET /v1/sessions/{SESSION}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            "Authorization: Bearer reader\r\n\r\n".encode(),
        )
        assert (await loop.sock_recv(reader, 15)).startswith(b"HTTP/1.1 200")
    return reader
