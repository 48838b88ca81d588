import stat
from pathlib import Path

import msgspec

from antiphon.cli.supervisor.addresses import Addresses
from antiphon.cli.supervisor.board import Board
from antiphon.cli.supervisor.lock import is_locked, take_lock
from antiphon.cli.supervisor.state import ServiceState, State, Step, read_state, state_file, write_state

NOWHERE = Addresses("", "", None, "", "", None, None, "", None)


def test_what_was_written_is_read_and_private(tmp_path: Path) -> None:
    state = State(1, 2.0, NOWHERE, steps=[Step("NATS")], services=[ServiceState("nats", pid=3)])

    write_state(tmp_path, state)

    assert read_state(tmp_path) == state
    assert stat.S_IMODE(state_file(tmp_path).stat().st_mode) == 0o600


def test_a_file_that_cannot_be_read_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    state_file(tmp_path).write_text("{ half a file")
    assert read_state(tmp_path) is None


def test_a_service_takes_the_place_of_the_one_with_its_name(tmp_path: Path) -> None:
    services = [ServiceState("nats"), ServiceState("postgres")]
    board = Board(tmp_path, State(1, 2.0, NOWHERE, services=services))

    board.show(ServiceState("nats", ready=True))

    written = read_state(tmp_path)
    assert written is not None
    assert [(service.name, service.ready) for service in written.services] == [
        ("nats", True),
        ("postgres", False),
    ]


def test_a_step_notes_that_it_runs_and_that_it_is_done(tmp_path: Path) -> None:
    board = Board(tmp_path, State(1, 2.0, NOWHERE, steps=[Step("NATS")]))

    with board.step("NATS"):
        during = msgspec.json.decode(state_file(tmp_path).read_bytes())["steps"][0]["progress"]

    assert during == "running"
    assert board.state.steps[0].progress == "done"


def test_the_lock_says_whether_its_holder_is_alive(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    lock = take_lock(tmp_path)
    assert lock is not None
    assert take_lock(tmp_path) is None
    assert is_locked(tmp_path)
    lock.close()
    assert not is_locked(tmp_path)
