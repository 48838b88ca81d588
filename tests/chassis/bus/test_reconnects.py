"""What a file, a server or a user in between may do, a connection goes on after it, and its secret stays."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.chassis.bus.consumers import until
from tests.chassis.bus.test_rotation import Server, open_buses, refused, start, unready, works
from tests.fixtures.certificates import put
from tests.fixtures.locked_nats import quoted
from tests.fixtures.nats_operator import Operator
from tests.fixtures.nats_servers import Certificates

from antiphon.chassis.bus import Bus
from antiphon.chassis.bus.renewed import RENEW_SECONDS
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.nats_config import accounts, as_config
from antiphon.chassis.nats_users import SERVICES
from antiphon.cli.settings import LOOPBACK
from antiphon.cli.stack.ports import free_port

__all__ = ["open_buses", "start"]
WAIT_SECONDS = 60.0
PASSWORD = "c4nary-old"
# what a server behind TLS says, from one that has none
INFO = b'INFO {"version":"2.15.1","proto":1,"headers":true,"auth_required":true,"tls_required":true}\r\n'


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "spoil", [lambda path: put(path, b"half of a"), Path.unlink, _pipe], ids=["damaged", "gone", "pipe"]
)
async def test_credentials_that_cannot_be_used_leave_the_earlier_ones_in_use(
    start: Callable[[str], Server],
    open_buses: list[Bus],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], object],
) -> None:
    operator = Operator()
    creds = operator.write_creds(tmp_path / "user.creds")
    server = start(operator.server_config())
    bus = await server.connect(NatsAccess(url=server.url, creds=creds))
    open_buses.append(bus)

    spoil(creds)
    server.stop()
    await until(lambda: any("nats.settings_invalid" in record.message for record in caplog.records))
    server.launch()

    await works(bus)


async def test_an_answer_that_is_no_nats_does_not_end_the_attempts(
    start: Callable[[str], Server], open_buses: list[Bus]
) -> None:
    server = start("")
    bus = await server.connect(NatsAccess(url=server.url))
    open_buses.append(bus)
    asked: list[asyncio.StreamWriter] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        writer.write(b"INFO\r\n")
        await writer.drain()
        writer.close()

    server.stop()
    other = await asyncio.start_server(answer, LOOPBACK, server.port)
    await until(lambda: len(asked) > 1)
    other.close()
    await other.wait_closed()
    server.launch()

    async with asyncio.timeout(WAIT_SECONDS):
        while not bus.connection.connected.is_set():
            server.launch_again()
            await asyncio.sleep(0.1)
    await works(bus)


async def test_an_authority_with_a_plain_websocket_sends_nothing(tmp_path: Path) -> None:
    sent: list[bytes] = []

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(INFO)
        sent.extend([message.data async for message in socket])
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        ca = Certificates(tmp_path).ca
        access = NatsAccess(url=f"ws://{LOOPBACK}:{port}", user="ann", password=PASSWORD, ca=ca)
        await refused(access, "does not offer TLS")
    finally:
        await runner.cleanup()
    assert PASSWORD.encode() not in b"".join(sent)


async def test_a_url_that_becomes_tls_is_not_connected_to_without_it(
    start: Callable[[str], Server], open_buses: list[Bus], tmp_path: Path
) -> None:
    server = start("")
    url = put(tmp_path / "url", server.url.encode())
    bus = await server.connect(NatsAccess(url_file=url))
    open_buses.append(bus)

    put(url, server.url.replace("nats:", "tls:").encode())
    server.stop()
    await until(lambda: not bus.connection.connected.is_set())
    await asyncio.sleep(RENEW_SECONDS)
    server.launch()

    await unready(bus, "does not offer TLS")


async def test_a_user_in_the_url_may_become_a_token(
    start: Callable[[str], Server], open_buses: list[Bus], tmp_path: Path
) -> None:
    server = start(f"authorization {{ user: ann, password: {PASSWORD} }}\n")
    url = put(tmp_path / "url", server.url.replace("//", f"//ann:{PASSWORD}@").encode())
    bus = await server.connect(NatsAccess(url_file=url))
    open_buses.append(bus)

    put(url, server.url.replace("//", "//t0ken@").encode())
    server.configure("authorization { token: t0ken }\n")
    server.restart()

    await works(bus)


async def test_a_user_is_replaced_by_one_that_hears_the_inboxes_of_both(
    start: Callable[[str], Server], open_buses: list[Bus], tmp_path: Path
) -> None:
    """As in docs/how-to/rotate-secrets.md: a process keeps its inbox, a new one has that of its user."""
    first, second = "agent-worker", "agent-worker-2"
    both = as_config(accounts(SERVICES | {second: SERVICES[first]}), quoted)
    both = both.replace(f'"_INBOX.{second}.>"', f'"_INBOX.{first}.>", "_INBOX.{second}.>"')
    server = start(both)
    operator = NatsAccess(url=server.url, user="antiphon", password="password-of-antiphon")
    open_buses.append(await server.connect(operator))
    user, password = put(tmp_path / "user", first.encode()), tmp_path / "password"
    put(password, f"password-of-{first}".encode())
    access = NatsAccess(url=server.url, user_file=user, password_file=password)
    bus = await Bus.connect(access)
    open_buses.append(bus)

    put(user, second.encode())
    put(password, f"password-of-{second}".encode())
    server.configure(both.replace(quoted(first), quoted("nobody")))
    server.restart()

    await open_buses[0].connection.connected.wait()
    await works(bus)
    open_buses.append(await Bus.connect(access.current()))
    await works(open_buses[-1])
