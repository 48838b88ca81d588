import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.fixtures.full_disk import children_survive_a_full_disk, fill

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.nats_access import NatsAccess
from antiphon.cli.errors import StackError
from antiphon.cli.stack import nats
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.nats_users import Login, NatsUsers


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


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with users, in a folder with a stream of a server without."""
    folder = tmp_path / "nats"
    server = NatsServer(folder, users=NatsUsers.stored(folder))
    yield server
    server.kill()


def _access(server: NatsServer, login: Login) -> NatsAccess:
    return NatsAccess(url=server.url, user=login.user, password=login.password)


async def test_a_client_without_the_password_is_refused(guarded: NatsServer) -> None:
    guarded.start()
    assert guarded.users is not None

    for access in (
        NatsAccess(url=guarded.url),
        _access(guarded, Login("antiphon", "guessed")),
        _access(guarded, Login("supervisor", guarded.users.operator.password)),
    ):
        with pytest.raises(BusUnavailable, match="Authorization Violation") as refused:
            await Bus.connect(access, connect_timeout_seconds=2)
        assert guarded.users.operator.password not in str(refused.value)
    bus = await Bus.connect(_access(guarded, guarded.users.operator))
    await bus.ensure()
    await bus.close()


async def test_a_home_with_a_third_user_starts_and_keeps_its_data(guarded: NatsServer) -> None:
    """One that could not be denied anything: its permissions were got around by the reply of a request."""
    users = guarded.directory / "users.json"
    assert guarded.users is not None
    services, supervisor = guarded.users.operator.password, guarded.users.supervisor.password
    users.write_text(f'{{"services":"{services}","calls":"theirs","supervisor":"{supervisor}"}}')
    guarded.users = NatsUsers.stored(guarded.directory)

    guarded.start()

    bus = await Bus.connect(_access(guarded, guarded.users.operator))
    await bus.ensure()
    await bus.close()
    assert guarded.fault() is None
    with pytest.raises(BusUnavailable, match="Authorization Violation"):
        await Bus.connect(_access(guarded, Login("calls", "theirs")), connect_timeout_seconds=2)


async def test_a_home_from_before_keeps_its_data_and_gets_passwords(
    server: NatsServer, guarded: NatsServer
) -> None:
    server.start()
    await _store(server)
    server.stop()
    (server.directory / "nats.conf").chmod(0o644)

    guarded.start()

    assert guarded.users is not None
    bus = await Bus.connect(guarded.users.operator.url(guarded.url))
    assert await (await bus.bucket("keys")).get("a") == b"kept"
    await bus.close()


async def test_a_home_that_went_back_to_a_release_before_is_refused_when_both_have_streams(
    server: NatsServer, guarded: NatsServer
) -> None:
    server.start()
    await _store(server)
    server.stop()
    guarded.start()
    guarded.stop()
    server.start()  # the release before: it finds nothing, and begins again
    await _store(server)
    server.stop()

    with pytest.raises(StackError, match="is there too"):
        guarded.start()

    (guarded.directory / "store" / "jetstream" / "$G").rename(guarded.directory / "earlier")
    guarded.start()


def test_passwords_are_private_and_stay(guarded: NatsServer) -> None:
    guarded.start()
    assert guarded.users is not None
    assert guarded.process is not None

    assert NatsUsers.stored(guarded.directory) == guarded.users
    for file in ("users.json", "nats.conf"):
        assert stat.S_IMODE((guarded.directory / file).stat().st_mode) == 0o600
    secret = guarded.users.operator.password
    assert not [argument for argument in psutil.Process(guarded.process.pid).cmdline() if secret in argument]
    assert secret not in guarded.output.read_text()
    assert secret not in repr(guarded.users)


async def test_a_stream_that_cannot_be_written_is_reported_to_the_supervisor(
    guarded: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with children_survive_a_full_disk():
        guarded.start()
    assert guarded.users is not None
    assert guarded.process is not None
    bus = await Bus.connect(guarded.users.operator.url(guarded.url))
    await bus.ensure()
    fill(guarded.process.pid)
    with pytest.raises(BusUnavailable):
        await (await bus.bucket("keys")).put("a", b"lost")
    await bus.close()

    fault = guarded.fault()

    assert fault is not None
    assert "KV_keys" in fault
    assert guarded.restart_cures(fault)
    assert not guarded.restart_cures("does not respond")
    assert "restarted once" not in fault
    monkeypatch.setattr(nats, "RESTART_BYTES", 1 << 60)  # the disk is still full
    assert not guarded.restart_cures(fault)
    fault = guarded.fault()
    assert fault is not None
    assert re.search(r"it is restarted once 1073741824\.0 GiB are free \(\d.* now\)", fault)


def test_damaged_passwords_are_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text('{"services": "hidden"')

    with pytest.raises(StackError, match=r"users\.json is damaged: delete it") as raised:
        NatsUsers.stored(tmp_path)
    assert "hidden" not in str(raised.value)
