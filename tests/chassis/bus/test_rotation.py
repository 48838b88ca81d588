"""Certificates and passwords of NATS change on real servers, and connections go on without a restart."""

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.chassis.bus.consumers import publish, running, session, until
from tests.fixtures.certificates import Authority, put
from tests.fixtures.nats_servers import ConfiguredServer, kill_all

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.bus.typed_consumer import TypedConsumer
from antiphon.chassis.nats_access import NatsAccess
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.tool import ToolStarted

PASSWORD, NEXT = "c4nary-old", "c4nary-new"
WAIT_SECONDS = 60.0


class Server(ConfiguredServer):
    """A server whose configuration may be replaced while it runs, or before it starts again."""

    def configure(self, more: str) -> None:
        """Give it other lines."""
        self._more = more
        self.prepare()

    def reload(self) -> None:
        """Make it read its configuration and certificates again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """End all connections."""
        self.stop()
        self.launch()


class Files:
    """What is mounted for the server, and what for the client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority()
        self.ca = self.authority.write(folder / "ca.pem")
        self.server_ca = self.authority.write(folder / "server-ca.pem")
        self.authority.issue(folder, "server")
        self.cert, self.key = self.authority.issue(folder, "client")
        self.password = put(folder / "password", f"{PASSWORD}\n".encode())

    def config(self, *, verify: str = "", password: str = PASSWORD) -> str:
        names = {"ca_file": "server-ca.pem", "cert_file": "server.pem", "key_file": "server.key"}
        paths = ", ".join(f"{name}: {json.dumps(str(self.folder / file))}" for name, file in names.items())
        more = f", {verify}: true" if verify else ""
        user = f"user: ann, password: {password}"
        return f"tls {{ {paths}{more} }}\nauthorization {{ users: [{{ {user} }}] }}\n"

    def access(self, server: Server, *, mutual: bool = False) -> NatsAccess:
        cert, key = (self.cert, self.key) if mutual else (None, None)
        url = server.url.replace("nats:", "tls:")
        return NatsAccess(url=url, user="ann", password_file=self.password, ca=self.ca, cert=cert, key=key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "files")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def launch(config: str) -> Server:
        server = Server(tmp_path / "nats", config)
        server.launch()
        servers.append(server)
        return server

    yield launch
    kill_all(servers)


async def works(bus: Bus) -> None:
    """Wait until the connection works again."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await bus.connection.round_trip(2.0)
            except BusUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def ready(consumer: TypedConsumer) -> None:
    """Wait until it reads, and its handlers can publish."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                assert await consumer.ready() == ""
            except BusUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def unready(bus: Bus, because: str) -> str:
    """Wait until readiness says what is wrong, as each service asks."""
    async with asyncio.timeout(WAIT_SECONDS):
        said = ""
        while because not in said:
            try:
                await bus.ready(timeout_seconds=0.5)
            except BusUnavailable as error:
                said = str(error)
            await asyncio.sleep(0.05)
    return said


async def refused(access: NatsAccess, advice: str) -> None:
    """Wait until who cannot connect gets the advice."""
    said = ""
    async with asyncio.timeout(WAIT_SECONDS):
        while advice not in said:  # a busy machine may not answer in time
            with pytest.raises(BusUnavailable) as refusal:
                await Bus.connect(access, connect_timeout_seconds=3.0)
            said = str(refusal.value)
            assert PASSWORD not in said


@pytest.fixture
async def open_buses() -> AsyncIterator[list[Bus]]:
    buses: list[Bus] = []
    yield buses
    for bus in buses:
        await bus.close()


async def test_what_is_wrong_with_a_certificate_names_its_variable(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus], tmp_path: Path
) -> None:
    server = start(files.config(verify="verify"))
    open_buses.append(await server.connect(files.access(server, mutual=True)))
    foreign = Authority()

    await refused(files.access(server), "check ANTIPHON_NATS_CERT")
    files.cert, files.key = files.authority.issue(tmp_path, "late", expired=True)
    await refused(files.access(server, mutual=True), "check ANTIPHON_NATS_CERT")
    files.cert, files.key = foreign.issue(tmp_path, "foreign")
    await refused(files.access(server, mutual=True), "check ANTIPHON_NATS_CERT")
    files.ca = foreign.write(tmp_path / "foreign-ca.pem")
    await refused(files.access(server, mutual=True), "check ANTIPHON_NATS_CA")


async def test_a_server_certificate_of_another_authority_is_accepted_after_its_bundle_was_replaced(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(files.config(verify="verify"))
    bus = await server.connect(files.access(server, mutual=True))
    open_buses.append(bus)
    subscription = await bus.subscribe("live.a")
    renewed = Authority()
    renewed.issue(files.folder, "server")
    renewed.write(files.server_ca)
    server.restart()
    await unready(bus, "check ANTIPHON_NATS_CA")

    put(files.ca, b"damaged")  # while it is disconnected: logged, and tried again
    await until(lambda: any("nats.settings_invalid" in record.message for record in caplog.records))
    renewed.write(files.ca)
    renewed.issue(files.folder, "client")
    await works(bus)

    await bus.announce("live.a", b"still subscribed")
    async with asyncio.timeout(WAIT_SECONDS):
        while await subscription.next(5) != ("live.a", b"still subscribed"):
            pass
    assert PASSWORD not in caplog.text


async def test_a_client_certificate_may_be_the_user(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus]
) -> None:
    files.cert, files.key = files.authority.issue(files.folder, "client", "worker@example.com")
    config = files.config(verify="verify").partition("authorization")[0]
    config = config.replace("verify: true", "verify_and_map: true")
    server = start(config + "authorization { users: [{ user: worker@example.com }] }\n")
    access = NatsAccess(url=server.url, ca=files.ca, cert=files.cert, key=files.key)

    open_buses.append(await server.connect(access))

    cert, key = files.authority.issue(files.folder, "other", "nobody@example.com")
    await refused(NatsAccess(url=server.url, ca=files.ca, cert=cert, key=key), "ANTIPHON_NATS")


async def test_a_password_is_replaced_under_a_bus_and_a_consumer(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start(files.config())
    access = files.access(server)
    bus = await server.connect(access)
    open_buses.append(bus)
    await bus.ensure()
    seen: list[str] = []
    consumer = TypedConsumer("rotated", access)

    @consumer.on(ToolStarted)
    async def started(event: ToolStarted, envelope: Envelope) -> None:
        seen.append(envelope.id)

    async with running(consumer):
        await publish(bus, 3, session(1))
        await until(lambda: len(seen) == 3)

        server.configure(files.config(password=NEXT))
        server.reload()  # which ends the connections of the user
        await unready(bus, "check ANTIPHON_NATS_USER and ANTIPHON_NATS_PASSWORD")
        put(files.password, f"{NEXT}\n".encode())

        await works(bus)
        await publish(bus, 3, session(2))
        await until(lambda: len(seen) == 6)
        await ready(consumer)
        server.stop()  # the reason is another one: the password is right since
        await until(lambda: not bus.connection.connected.is_set())
        assert "ANTIPHON_NATS" not in await unready(bus, "did not answer STREAM.INFO.SESSIONS")
        server.launch()
        await works(bus)
    assert PASSWORD not in caplog.text
    assert NEXT not in caplog.text


async def test_a_damaged_file_is_not_used_after_the_server_has_ended_the_connection(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus], caplog: pytest.LogCaptureFixture
) -> None:
    """nats-py gives up a connection that the server refuses, and a new client has no earlier options."""
    server = start(files.config())
    bus = await server.connect(files.access(server))
    open_buses.append(bus)
    put(files.ca, b"damaged")
    server.configure(files.config(password=NEXT))
    server.reload()
    await unready(bus, "check ANTIPHON_NATS_USER and ANTIPHON_NATS_PASSWORD")

    def said() -> int:
        return sum("nats.settings_invalid" in record.message for record in caplog.records)

    await until(lambda: said() > 0)
    server.configure(files.config())
    server.reload()
    await works(bus)
    assert said() == 1  # once for each mistake


async def test_a_server_that_stops_offering_tls_gets_nothing(
    start: Callable[[str], Server], files: Files, open_buses: list[Bus]
) -> None:
    server = start(files.config())
    bus = await server.connect(files.access(server))
    open_buses.append(bus)

    server.configure(files.config().partition("\n")[2])
    server.restart()

    await unready(bus, "does not offer TLS")
