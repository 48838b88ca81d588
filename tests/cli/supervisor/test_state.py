import errno
import os
import stat
from pathlib import Path

import msgspec
import pytest

from antiphon.cli.home import supervisor_of, take_lock
from antiphon.cli.supervisor import state as state_module
from antiphon.cli.supervisor.state import (
    Addresses,
    ServiceState,
    State,
    StateFile,
    Step,
    read_state,
    state_path,
    write_state,
)

NOWHERE = Addresses("", "", None, "", "", None, None, "", None)


def test_written_state_is_read_back_and_private(tmp_path: Path) -> None:
    state = State(1, NOWHERE, steps=[Step("NATS")], services=[ServiceState("nats", pid=3)])

    write_state(tmp_path, state)

    assert read_state(tmp_path) == state
    assert stat.S_IMODE(state_path(tmp_path).stat().st_mode) == 0o600


def test_state_is_written_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_state(tmp_path, State(1, NOWHERE, services=[ServiceState("nats", detail="ready" * 20)]))
    monkeypatch.setattr(state_module, "write_private", full)
    state = State(1, NOWHERE, services=[ServiceState("nats", detail="cannot write")])

    write_state(tmp_path, state)

    assert read_state(tmp_path) == state
    with pytest.raises(OSError, match="No space left"):  # there is no block for a first one
        write_state(tmp_path / "new", state)


def test_unreadable_file_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    state_path(tmp_path).write_text("{ half a file")
    assert read_state(tmp_path) is None


def test_service_replaces_the_one_with_its_name(tmp_path: Path) -> None:
    services = [ServiceState("nats"), ServiceState("postgres")]
    file = StateFile(tmp_path, State(1, NOWHERE, services=services))

    file.set_service(ServiceState("nats", ready=True))

    written = read_state(tmp_path)
    assert written is not None
    assert [(service.name, service.ready) for service in written.services] == [
        ("nats", True),
        ("postgres", False),
    ]


def test_step_is_recorded_while_it_runs_and_when_it_is_done(tmp_path: Path) -> None:
    file = StateFile(tmp_path, State(1, NOWHERE, steps=[Step("NATS")]))

    with file.step("NATS"):
        during = msgspec.json.decode(state_path(tmp_path).read_bytes())["steps"][0]["progress"]

    assert during == "running"
    assert file.state.steps[0].progress == "done"


def test_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    assert supervisor_of(tmp_path) is None
    lock = take_lock(tmp_path)
    assert lock is not None
    assert take_lock(tmp_path) is None
    assert supervisor_of(tmp_path) == os.getpid()
    lock.close()
    assert supervisor_of(tmp_path) is None
