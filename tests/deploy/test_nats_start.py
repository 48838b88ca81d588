"""What a broker does before it starts, with the folders of a release without accounts."""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path("deploy/nats/start.sh")
OF_THE_CHART = Path("deploy/helm/antiphon-stack/files/nats/start.sh")


def start(store: Path) -> subprocess.CompletedProcess[str]:
    """Run the script on a folder, with a server that only says that it starts."""
    script = (
        SCRIPT.read_text()
        .replace("store=/data", f"store={store}")
        .replace("exec nats-server", "echo started")
    )
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize(
    ("folders", "starts", "left"),
    [
        (["$G/streams/KV_keys"], True, {"ANTIPHON"}),
        (["ANTIPHON/streams/KV_keys"], True, {"ANTIPHON"}),
        (["$G/streams", "ANTIPHON/streams/KV_keys"], True, {"$G", "ANTIPHON"}),
        (["$G/streams/KV_keys", "ANTIPHON/streams/KV_keys"], False, {"$G", "ANTIPHON"}),
        # a member of a cluster: from before, and since
        (["$G/streams/KV_keys", "$SYS"], False, {"$G", "$SYS"}),
        (
            ["$G/streams/KV_keys", "ANTIPHON/streams/KV_keys", "$SYS", "SYS"],
            True,
            {"$G", "ANTIPHON", "$SYS", "SYS"},
        ),
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


def test_compose_and_the_chart_do_the_same() -> None:
    assert OF_THE_CHART.read_text() == SCRIPT.read_text()
