"""What Compose's broker does before it starts, with the folders of a release without accounts."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path("deploy/nats/start.sh")


def start(store: Path) -> subprocess.CompletedProcess[str]:
    """Run the script on a folder, with a server that only says that it starts."""
    script = SCRIPT.read_text().replace("/data/", f"{store}/").replace("exec nats-server", "echo started")
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize(
    ("folders", "starts", "left"),
    [
        (["$G/streams/KV_keys"], True, {"ANTIPHON"}),
        (["ANTIPHON/streams/KV_keys"], True, {"ANTIPHON"}),
        (["$G/streams", "ANTIPHON/streams/KV_keys"], True, {"$G", "ANTIPHON"}),
        (["$G/streams/KV_keys", "ANTIPHON/streams/KV_keys"], False, {"$G", "ANTIPHON"}),
        (["$G/streams/KV_keys", "$SYS"], True, {"$G", "$SYS"}),  # a member of a cluster
    ],
)
def test_streams_move_to_the_account_of_the_log(
    tmp_path: Path, folders: list[str], starts: bool, left: set[str]
) -> None:
    for folder in folders:
        (tmp_path / "jetstream" / folder).mkdir(parents=True)

    done = start(tmp_path)

    assert (done.returncode == 0, "started" in done.stdout) == (starts, starts)
    assert starts or "both have streams" in done.stderr
    assert {each.name for each in (tmp_path / "jetstream").iterdir()} == left
