import os
import signal
import subprocess
import sys

import psutil

from antiphon.cli.supervisor.orphans import end_orphans, end_session, is_running
from antiphon.cli.supervisor.state import Addresses, ServiceState, State

NOWHERE = Addresses("", "", None, "", "", None, None, "", None)
STAYS = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)
HAS_CHILD = (
    f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {STAYS!r}]); time.sleep(60)"
)


def _start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)


def _state(pid: int, started: float) -> State:
    return State(0, NOWHERE, services=[ServiceState("session-api", pid=pid, started=started)])


def test_orphan_is_ended() -> None:
    orphan = _start("import time; time.sleep(60)")
    started = psutil.Process(orphan.pid).create_time()

    assert end_orphans(_state(orphan.pid, started)) == ["session-api"]

    assert orphan.wait(5) == -signal.SIGTERM


def test_reused_process_id_is_left_running() -> None:
    started = psutil.Process(os.getpid()).create_time()

    assert end_orphans(_state(os.getpid(), started - 3600)) == []
    assert not is_running(os.getpid(), started - 3600)


def test_session_that_ignores_sigterm_is_killed() -> None:
    leader = _start(HAS_CHILD)
    started = psutil.Process(leader.pid).create_time()
    assert leader.stdout is not None
    leader.stdout.readline()  # the child is there, and ignores SIGTERM
    (child,) = psutil.Process(leader.pid).children()

    leader.kill()
    leader.wait(5)
    end_session(leader.pid, started, timeout_seconds=0.2)

    assert not is_running(child.pid, child.create_time() if child.is_running() else 0.0)


def test_zombie_is_not_running() -> None:
    process = _start("pass")
    started = psutil.Process(process.pid).create_time()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert not is_running(process.pid, started)
    process.wait()
