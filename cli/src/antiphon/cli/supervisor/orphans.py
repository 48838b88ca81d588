"""End processes left by a dead supervisor or service, found by process id and start time."""

import os
import signal
import time

import psutil

from antiphon.cli.supervisor.state import State

SAME_START_SECONDS = 2.0  # tolerates clock changes; process ids are not reused this fast
TIMEOUT_SECONDS = 8.0


def is_running(pid: int, started: float) -> bool:
    """Return whether the process with this id and start time is running."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_orphans(state: State) -> list[str]:
    """End every process in the state that is still running; return their names."""
    ended = []
    for service in reversed(state.services):
        if service.pid is not None and service.started is not None:
            if is_running(service.pid, service.started):
                ended.append(service.name)
                os.kill(service.pid, signal.SIGTERM)
            end_session(service.pid, service.started)
    return ended


def end_session(leader: int, started: float, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait for the processes of a session to end, including the leader; kill the rest after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while members := _session(leader, started):
        if time.monotonic() > deadline:
            for member in members:
                member.kill()
            psutil.wait_procs(members, timeout=5)
            return
        time.sleep(0.05)


def _session(leader: int, started: float) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # the id was reused by another session leader
            if process.pid == leader and not is_running(leader, started):
                return []
            if process.create_time() > started - SAME_START_SECONDS:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
