import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.errors import StackError
from antiphon.cli.stack.nats import NatsServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    yield server
    server.kill()


async def _store(server: NatsServer) -> None:
    bus = await Bus.connect(server.url)
    await bus.ensure()
    bucket = await bus.bucket("keys")
    await bucket.put("a", b"kept")
    await bus.close()


async def _stored(server: NatsServer) -> bytes | None:
    bus = await Bus.connect(server.url)
    bucket = await bus.bucket("keys")
    value = await bucket.get("a")
    await bus.close()
    return value


async def test_acknowledged_data_survives_sigkill(server: NatsServer) -> None:
    server.start()
    await _store(server)

    server.kill()
    server.start()

    assert await _stored(server) == b"kept"


async def test_stored_data_survives_a_stop(server: NatsServer) -> None:
    server.start()
    await _store(server)

    server.stop()
    assert not server.ready()
    server.start()

    assert await _stored(server) == b"kept"


def test_only_loopback_is_bound(server: NatsServer) -> None:
    server.start()

    assert server.process is not None
    listening = {
        c.laddr.ip for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"
    }
    assert listening == {"127.0.0.1"}


def test_server_without_jetstream_is_not_ready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = NatsServer(tmp_path, port=other.getsockname()[1])

        assert not server.ready()


def test_failed_start_has_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a folder must be")

    with pytest.raises(StackError, match=r"NATS ended with code 1(.|\n)*storage directory"):
        NatsServer(tmp_path).start()


@pytest.mark.parametrize("name", ['the "new" one', "my höme dir", "a $HOME; #1", "日本 {x}"])
def test_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    server = NatsServer(tmp_path / name)
    server.start()
    server.stop()

    assert (server.directory / "store" / "jetstream").is_dir()
