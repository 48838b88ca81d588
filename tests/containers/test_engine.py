"""An engine of our own works beside another one, and leaves nothing behind, not even when it is killed."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers import base_image, engine, network
from tests.containers.engine import Engine

from antiphon.cli.errors import StackError

ROOT = Path(__file__).parents[2]
NAME = "second"
SERVER = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=80)"
ASK = """
import time, urllib.request
for _ in range(300):
    try:
        print(urllib.request.urlopen("http://server/etc/hostname", timeout=20).status)
        break
    except OSError:
        time.sleep(0.1)
"""
KILLED = """
import sys, time
from pathlib import Path
from tests.containers import engine

with engine.running("second", Path(sys.argv[1])) as started:
    started.docker("network", "create", "left")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def cache() -> Iterator[Path]:
    """A cache folder with a short name: the engine makes sockets in it."""
    with tempfile.TemporaryDirectory(prefix="e") as folder:
        yield Path(folder)


@pytest.fixture
def second(cache: Path) -> Iterator[Engine]:
    """Another engine, beside the one of this run."""
    with engine.running(NAME, cache) as started:
        yield started


def _traces(number: int) -> list[str]:
    """Return the links and the firewall rules of an instance."""
    prefix = f"10.{number}."
    links = [
        link["ifname"]
        for link in json.loads(subprocess.check_output(["ip", "-json", "-4", "address"], timeout=30))
        if any(address["local"].startswith(prefix) for address in link["addr_info"])
    ]
    rules = [
        line
        for table in ("nat", "filter")
        for line in subprocess.check_output(
            ["iptables", "-w", "10", "-t", table, "-S"], text=True, timeout=30
        ).splitlines()
        if prefix in line
    ]
    return links + rules


def test_containers_find_one_another_by_name(second: Engine) -> None:
    image = base_image.load(second)
    second.docker("network", "create", "inner")
    inner = ("--network", "inner", image, "python3", "-c")
    second.docker("run", "--detach", "--name", "server", *inner[:2], *inner[2:], SERVER)

    assert second.docker("run", "--rm", *inner, ASK) == "200"
    of_this_run = subprocess.check_output(["docker", "ps", "--all", "--format", "{{.Names}}"], timeout=30)
    assert b"server" not in of_this_run.split()


def test_it_leaves_no_process_link_or_rule(cache: Path) -> None:
    with engine.running(NAME, cache) as started:
        image = base_image.load(started)
        started.docker("network", "create", "left")
        started.docker("run", "--detach", "--network", "left", image, "sleep", "600")
        number = started.network.number
        assert len(_traces(number)) >= 5  # two bridges, three rules
        assert engine.processes(started.folder)
    assert engine.processes(cache / NAME) == []
    assert _traces(number) == []


def test_one_name_is_one_engine(cache: Path) -> None:
    with engine.running(NAME, cache), pytest.raises(StackError, match="choose another --name"):  # noqa: SIM117
        with engine.running(NAME, cache):
            pass


def test_a_killed_run_is_cleaned_up_by_the_next(cache: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(cache)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        killed.send_signal(signal.SIGKILL)
    number = int((cache / NAME / "network").read_text())
    assert _traces(number) != []

    with engine.running(NAME, cache) as started:
        assert started.docker("network", "ls", "--quiet", "--filter", "type=custom") == ""
        later = started.network.number
    assert engine.processes(cache / NAME) == []
    assert _traces(number) + _traces(later) == []


def test_a_range_in_use_is_not_taken() -> None:
    first = network.make()
    try:
        second = network.make()
        network.remove(second)
        assert first.number != second.number
        assert network._in_use(first)
    finally:
        network.remove(first)
    assert not network._in_use(first)


def test_an_engine_that_does_not_start_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_settings", lambda _: {"no-such-setting": True})
    with pytest.raises(StackError, match="no-such-setting"), engine.running(NAME, cache):
        pass
    assert engine.processes(cache / NAME) == []


def test_a_folder_that_is_too_long_for_sockets_is_refused(cache: Path) -> None:
    with pytest.raises(StackError, match="too long"), engine.running("n" * 100, cache):
        pass
