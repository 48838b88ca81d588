import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
from tests.fixtures.full_disk import children_survive_a_full_disk, fill
from tests.fixtures.stack_settings import isolated_settings

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.errors import StackError
from antiphon.cli.home import claim
from antiphon.cli.settings import StackSettings
from antiphon.cli.supervisor.state import ServiceState, State, read_state, write_state
from antiphon.contracts.api_keys import Scope

NAMES = ["nats", "postgres", "livekit", "persistence", "session-api", "webhook-ingest", "agent-worker"]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, stub_supervisor: tuple[str, ...]
) -> Iterator[EmbeddedStack]:
    """A running stack, shared by the tests that do not stop it."""
    settings = isolated_settings(tmp_path_factory.mktemp("stack") / "home")
    with EmbeddedStack(settings, supervisor=stub_supervisor) as stack:
        yield stack


def _wait_until(true: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _service(stack: EmbeddedStack, name: str) -> ServiceState:
    return next(service for service in stack.status().services if service.name == name)


def _kill(stack: EmbeddedStack, name: str) -> None:
    pid = _service(stack, name).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _state(stack: EmbeddedStack) -> State:
    state = read_state(stack.settings.home)
    assert state is not None
    return state


def _processes(state: State) -> list[psutil.Process]:
    return [psutil.Process(service.pid) for service in state.services if service.pid]


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_all_services_become_ready_and_stop(stub_stack: EmbeddedStack) -> None:
    stub_stack.start()

    status = stub_stack.status()
    assert status.ready
    assert [service.name for service in status.services] == NAMES

    processes = _processes(_state(stub_stack))
    seen: list[tuple[str, ...]] = []
    assert stub_stack.stop(watching=lambda state: seen.append(tuple(s.detail for s in state.services)))
    assert seen[-1] == ("stopped",) * len(NAMES)
    assert len(set(seen)) > 1
    assert _gone(processes)
    assert not stub_stack.status().ready
    assert _state(stub_stack).phase == "stopped"


def test_the_streams_are_recreated_if_the_operator_asks_for_it(
    settings: StackSettings, stub_supervisor: tuple[str, ...]
) -> None:
    asked = settings.model_copy(update={"recreate_streams": True})
    stack = EmbeddedStack(asked, supervisor=stub_supervisor)
    try:
        stack.start()
        assert "streams recreate --replace" in (settings.home / "logs" / "streams.log").read_text()
        assert "stream" in [step.name for step in _state(stack).steps]
    finally:
        stack.stop()


def test_status_document_keeps_its_shape(running: EmbeddedStack) -> None:
    document = json.loads(running.status().as_json(secrets=True))

    assert list(document) == [
        "home",
        "api_url",
        "api_key",
        "webhooks_url",
        "livekit_url",
        "livekit_api_key",
        "livekit_api_secret",
        "nats_url",
        "postgres_dsn",
        "services",
    ]
    assert all(list(s) == ["name", "pid", "ready", "detail", "restarts"] for s in document["services"])
    assert len(document["livekit_api_secret"]) >= 32


async def test_development_key_is_published_as_a_hash(running: EmbeddedStack) -> None:
    addresses = running.status().addresses
    assert addresses.api_key is not None

    bus = await Bus.connect(addresses.nats_url)
    bucket = await bus.bucket("keys")
    value = await bucket.get(hashlib.sha256(addresses.api_key.encode()).hexdigest())
    await bus.close()

    assert value is not None
    assert json.loads(value)["tenant"] == "default"
    assert json.loads(value)["scopes"] == sorted(Scope)
    assert json.loads(value)["operator"] is True


def test_state_is_private(running: EmbeddedStack) -> None:
    home = running.settings.home

    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600


async def test_another_user_of_the_machine_reaches_neither_nats_nor_postgres(running: EmbeddedStack) -> None:
    addresses = running.status().addresses
    assert addresses.postgres_dsn is not None
    nats, postgres = urlsplit(addresses.nats_url), urlsplit(addresses.postgres_dsn)
    assert nats.password
    assert postgres.password

    with pytest.raises(BusUnavailable, match="Authorization Violation"):
        await Bus.connect(f"nats://{nats.hostname}:{nats.port}", connect_timeout_seconds=2)
    for address in ("127.0.0.1", str(running.settings.home / "postgres"), "/tmp"):
        with pytest.raises((asyncpg.PostgresError, OSError)):  # a wrong password; no socket at all
            await asyncpg.connect(
                host=address, port=postgres.port, user="antiphon", password="guessed", database="antiphon"
            )

    secrets = (nats.password, postgres.password, addresses.livekit_api_secret, addresses.api_key)
    seen = [" ".join(process.cmdline()) for process in _processes(_state(running))]
    seen += [path.read_text(errors="replace") for path in running.settings.home.rglob("*.log")]
    assert not [text for text in seen for secret in secrets if secret and secret in text]


@pytest.mark.parametrize(
    "name",
    [
        "nats/users.json",
        "nats/nats.conf",
        "postgres/password",
        "postgres/logins.json",
        "livekit/livekit.yaml",
        "state.json",
    ],
)
def test_a_file_with_a_secret_is_private(running: EmbeddedStack, name: str) -> None:
    assert stat.S_IMODE((running.settings.home / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["nats", "postgres", "livekit", "session-api"])
def test_dead_service_is_restarted_and_counted(running: EmbeddedStack, name: str) -> None:
    before = _service(running, name).restarts
    _kill(running, name)

    _wait_until(lambda: _service(running, name).restarts > before and running.status().ready)


async def test_nats_is_restarted_when_a_stream_could_not_be_written(
    settings: StackSettings, stub_supervisor: tuple[str, ...]
) -> None:
    stack = EmbeddedStack(settings, supervisor=stub_supervisor)
    try:
        with children_survive_a_full_disk():
            stack.start()
        bus = await Bus.connect(stack.status().addresses.nats_url)
        keys = await bus.bucket("keys")
        pid = _service(stack, "nats").pid
        assert pid is not None
        fill(pid)
        with suppress(BusUnavailable):  # this one, and all until the restart; it may be retried so long
            await keys.put("a", b"lost")

        await asyncio.to_thread(_wait_until, lambda: _service(stack, "nats").restarts > 0, 60)
        await asyncio.to_thread(_wait_until, lambda: stack.status().ready, 60)
        await keys.put("a", b"stored")
        await bus.close()
    finally:
        stack.stop()
    assert "restarting nats: cannot write: " in stack.output.read_text()


def test_backoff_grows_while_a_service_keeps_ending(running: EmbeddedStack) -> None:
    (running.settings.home / "break").touch()

    _kill(running, "session-api")

    _wait_until(lambda: "restarting in 2 s" in _service(running, "session-api").detail)
    (running.settings.home / "break").unlink()
    _wait_until(lambda: running.status().ready)


def test_second_start_changes_nothing(running: EmbeddedStack) -> None:
    before = [service.pid for service in running.status().services]

    EmbeddedStack(running.settings).start()

    assert [service.pid for service in running.status().services] == before


def test_start_after_a_killed_supervisor_recovers(
    stub_stack: EmbeddedStack,
) -> None:
    stub_stack.start()
    before = stub_stack.status().addresses
    processes = _processes(_state(stub_stack))

    stub_stack.kill()
    _wait_until(lambda: _gone(processes))
    assert not stub_stack.status().ready
    stub_stack.start()

    assert stub_stack.status().ready
    assert stub_stack.status().addresses == before


def test_state_from_before_a_reboot_is_ignored(stub_stack: EmbeddedStack) -> None:
    stub_stack.start()
    stub_stack.kill()
    state = _state(stub_stack)
    for service in state.services:  # after a reboot other processes have these ids
        service.pid, service.started = os.getpid(), 1.0
    state.supervisor_pid = os.getpid()
    write_state(stub_stack.settings.home, state)
    (stub_stack.settings.home / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")

    stub_stack.start()

    assert stub_stack.status().ready


def test_taken_port_fails_the_start_and_names_its_owner(stub_stack: EmbeddedStack) -> None:
    port = stub_stack.settings.webhooks_port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StackError) as raised:
        stub_stack.start()

    assert f"port {port} for webhook-ingest is taken by process {os.getpid()}" in str(raised.value)
    assert "ANTIPHON_WEBHOOKS_PORT" in str(raised.value)
    assert not [service for service in _state(stub_stack).services if service.pid]


def test_failed_service_is_named_with_the_end_of_its_log(stub_stack: EmbeddedStack) -> None:
    claim(stub_stack.settings.home)
    (stub_stack.settings.home / "break").touch()

    with pytest.raises(StackError, match=r"session-api did not become ready(.|\n)*it does not start"):
        stub_stack.start()

    assert not [service for service in _state(stub_stack).services if service.pid]
    (stub_stack.settings.home / "break").unlink()
    stub_stack.start()


def test_two_stacks_run_concurrently(running: EmbeddedStack, tmp_path: Path) -> None:
    other = EmbeddedStack(isolated_settings(tmp_path / "other"), supervisor=running.supervisor)
    with other:
        assert other.status().ready
        assert other.status().addresses.api_key != running.status().addresses.api_key

    assert running.status().ready


def test_external_livekit_server_is_used_and_watched(
    settings: StackSettings, stub_stack: EmbeddedStack, tmp_path: Path
) -> None:
    stub_stack.start()
    theirs = stub_stack.status().addresses
    given = isolated_settings(
        tmp_path / "guest",
        livekit_url=theirs.livekit_url,
        livekit_api_key=theirs.livekit_api_key,
        livekit_api_secret=theirs.livekit_api_secret,
    )
    with EmbeddedStack(given, supervisor=stub_stack.supervisor) as guest:
        assert _service(guest, "livekit").pid is None
        assert guest.status().addresses.livekit_api_key == theirs.livekit_api_key
        stub_stack.stop()
        _wait_until(lambda: not guest.status().ready)


def test_stop_during_start_leaves_no_process(stub_stack: EmbeddedStack) -> None:
    failures: list[str] = []
    starting = threading.Thread(target=lambda: failures.append(_start_and_fail(stub_stack)))
    starting.start()
    _wait_until(lambda: _has_processes(stub_stack))

    stub_stack.stop()
    starting.join()

    assert re.search("was stopped|ended", failures[0])
    assert not _has_processes(stub_stack)


def _has_processes(stack: EmbeddedStack) -> bool:
    state = read_state(stack.settings.home)
    return state is not None and any(service.pid for service in state.services)


def _start_and_fail(stack: EmbeddedStack) -> str:
    with pytest.raises(StackError) as raised:
        stack.start()
    return str(raised.value)


def _start(stack: EmbeddedStack, started: list[bool]) -> threading.Thread:
    # detached: else the stack would end with the thread
    thread = threading.Thread(target=lambda: started.append(stack.start(detached=True)))
    thread.start()
    return thread


def test_the_second_of_two_simultaneous_starts_waits_for_the_first(stub_stack: EmbeddedStack) -> None:
    second = EmbeddedStack(stub_stack.settings, supervisor=stub_stack.supervisor)
    started: list[bool] = []
    threads = [_start(stack, started) for stack in (stub_stack, second)]
    try:
        for thread in threads:
            thread.join(300)
        assert sorted(started) == [False, True]
        assert stub_stack.launched != second.launched
    finally:
        second.stop()


def test_a_start_during_a_stop_waits_and_starts_again(stub_stack: EmbeddedStack) -> None:
    stub_stack.start()
    before = _state(stub_stack).supervisor_pid
    stopping = threading.Thread(target=stub_stack.stop)
    stopping.start()
    _wait_until(lambda: not stub_stack.status().ready)
    after = EmbeddedStack(stub_stack.settings, supervisor=stub_stack.supervisor)
    try:
        assert after.start()
        assert after.status().ready
        assert _state(after).supervisor_pid != before
    finally:
        stopping.join(120)
        after.stop()


def test_stop_before_the_first_state_leaves_no_process(stub_stack: EmbeddedStack, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(f"import time, runpy; time.sleep(3); runpy.run_path({stub_stack.supervisor[1]!r})")
    slow = EmbeddedStack(stub_stack.settings, supervisor=(stub_stack.supervisor[0], str(script)))
    stub_stack.start()
    stub_stack.stop()  # so that there is a state, of another supervisor
    failures: list[str] = []
    starting = threading.Thread(target=lambda: failures.append(_start_and_fail(slow)))
    starting.start()
    _wait_until(lambda: slow._supervisor is not None)

    slow.stop()
    starting.join()

    assert re.search("was stopped|ended", failures[0])
    assert not _has_processes(slow)
