"""The recorder's connection: it retries whatever the error is, and says once what is wrong."""

import asyncio
import logging
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.nats_access import InvalidAccess, NatsAccess
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.recorder.outbox import BusLink, bus_link

ABOUT = {"variable": "ANTIPHON_NATS_URL", "url": "nats://broker:4222", "journal": "/journals"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == bus_link.__name__ and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize(
    "error",
    [
        BusUnavailable("nobody answers"),
        ValueError("Port could not be cast to integer value as 'secret'"),
        AssertionError(),
        OSError("no route"),
        UnicodeError("label too long"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_connecting_is_retried_and_the_first_error_is_logged(
    error: Exception, bus: Bus, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([error, error, error])

    async def connect() -> Bus:
        if (failure := next(failures, None)) is not None:
            raise failure
        return await Bus.connect(nats_server.url, name="link")

    link = BusLink(connect, about=ABOUT)
    async with asyncio.timeout(60):
        await (await link.bus()).ready()
    await link.close()
    first, reached = warnings(caplog)
    assert first.startswith("bus.unreachable")
    assert all(text in first for text in ABOUT.values())
    assert "secret" not in first
    assert reached.startswith("bus.reached")


async def test_a_wrong_certificate_file_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def connect() -> Bus:
        raise InvalidAccess("ANTIPHON_NATS_CA is '/ca.pem': it holds no certificate")

    link = BusLink(connect)
    waiting = asyncio.create_task(link.bus())
    async with asyncio.timeout(60):
        while not warnings(caplog):  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.05)
    await link.close()
    await asyncio.wait([waiting])

    assert "ANTIPHON_NATS_CA is '/ca.pem'" in warnings(caplog)[0]


@pytest.fixture
def locked_port(nats_server: NatsServer) -> Iterator[int]:
    """The port of a server that refuses the password `secret`."""
    port = free_port()
    program = nats_server.prepare().argv[0]
    server = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port), "--user", "u", "--pass", "other"])
    yield port
    server.kill()
    server.wait(10)


async def test_refused_credentials_are_retried_and_not_shown(
    locked_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    access = NatsAccess(url=f"nats://u:secret@127.0.0.1:{locked_port}")
    connect = partial(Bus.connect, access, name="link", connect_timeout_seconds=1.0)
    link = BusLink(connect, about={**ABOUT, "url": ",".join(access.servers)})
    waiting = asyncio.create_task(link.bus())
    async with asyncio.timeout(60):
        while not warnings(caplog):  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.05)
    await link.close()
    await asyncio.wait([waiting])
    assert len(warnings(caplog)) == 1
    assert f"127.0.0.1:{locked_port}" in warnings(caplog)[0]
    assert "secret" not in caplog.text


async def test_a_failed_attempt_is_known_at_once_and_connecting_goes_on(
    bus: Bus, nats_server: NatsServer
) -> None:
    attempts = 0
    may_connect = asyncio.Event()

    async def connect() -> Bus:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise BusUnavailable("connection refused")
        await may_connect.wait()
        return await Bus.connect(nats_server.url, name="link")

    link = BusLink(connect)
    async with asyncio.timeout(60):
        for _ in range(2):
            with pytest.raises(BusUnavailable):
                await link.reachable_bus()
        may_connect.set()
        connected = await link.bus()
        assert await link.reachable_bus() is connected
    await link.close()


async def test_link_without_a_broker_never_connects() -> None:
    link = BusLink(None)
    assert not link.enabled
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await link.bus()
    await link.close()
