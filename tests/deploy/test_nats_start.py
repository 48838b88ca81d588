"""What a broker does before it starts, with the folders of a release without accounts."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path("deploy/nats/start.sh")
OF_THE_CHART = Path("deploy/helm/antiphon-stack/files/nats/start.sh")


def start(store: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a folder, with a server that only says that it starts."""
    script = (
        SCRIPT.read_text()
        .replace("store=/data", f"store={store}")
        .replace("exec nats-server", "echo started")
    )
    command, environment = ["/bin/sh", "-c", script], {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)


@pytest.mark.parametrize(
    ("folders", "starts", "left"),
    [
        (["$G/streams/KV_keys"], True, {"ANTIPHON"}),
        (["ANTIPHON/streams/KV_keys"], True, {"ANTIPHON"}),
        (["$G/streams", "ANTIPHON/streams/KV_keys"], True, {"$G", "ANTIPHON"}),
        (["$G/streams/KV_keys", "ANTIPHON/streams/KV_keys"], False, {"$G", "ANTIPHON"}),
        # a member of a cluster: from before, and since
        (["$G/streams/KV_keys", "$SYS"], False, {"$G", "$SYS"}),
        (["$G/streams", "ANTIPHON/streams/KV_keys", "$SYS", "SYS"], True, {"$G", "ANTIPHON", "$SYS", "SYS"}),
        (
            ["$G/streams/KV_keys", "ANTIPHON/streams/KV_keys", "$SYS", "SYS"],
            False,
            {"$G", "ANTIPHON", "$SYS", "SYS"},
        ),
        (["$G/streams/KV_keys", "$SYS", "SYS"], False, {"$G", "$SYS", "SYS"}),
        # this release began without streams, and one from before went on
        (["$G/streams/KV_keys", "ANTIPHON/streams"], False, {"$G", "ANTIPHON"}),
    ],
)
def test_streams_move_to_the_account_of_the_log(
    tmp_path: Path, folders: list[str], starts: bool, left: set[str]
) -> None:
    for folder in folders:
        (tmp_path / "jetstream" / folder).mkdir(parents=True)

    done = start(tmp_path)

    assert (done.returncode == 0, "started" in done.stdout) == (starts, starts)
    if not starts:
        page, heading = re.findall(r'see (\S+), "([^"]+)"', done.stderr)[0]
        assert f"## {heading}\n" in Path(page).read_text()
    assert {each.name for each in (tmp_path / "jetstream").iterdir()} == left


def test_a_folder_that_cannot_be_moved_stops_the_server(tmp_path: Path) -> None:
    store = tmp_path / "jetstream"
    (store / "$G/streams/KV_keys").mkdir(parents=True)
    (store / "ANTIPHON").symlink_to("nowhere")

    done = start(tmp_path)

    assert (done.returncode, "started" in done.stdout) == (1, False)
    assert "cannot be renamed" in done.stderr


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_password_lets_nobody_in(tmp_path: Path, empty: str) -> None:
    """nats-server takes it, and then everybody who names the user."""
    done = start(tmp_path, NATS_PERSISTENCE_PASSWORD="n1", NATS_OPERATOR_PASSWORD=empty)

    assert (done.returncode, "started" in done.stdout) == (1, False)
    assert "NATS_OPERATOR_PASSWORD is empty" in done.stderr
    assert "PERSISTENCE" not in done.stderr
    assert start(tmp_path, NATS_PERSISTENCE_PASSWORD="n1", NATS_OPERATOR_PASSWORD="n2").returncode == 0


def test_compose_and_the_chart_do_the_same() -> None:
    assert OF_THE_CHART.read_text() == SCRIPT.read_text()
