"""End what a dead supervisor or a dead service left behind: by process id and start time, never by name."""

import os
import signal
import time

import psutil

from antiphon.cli.supervisor.state import State

SAME_START_SECONDS = 2.0  # the kernel's clock may be set meanwhile; a process id is not given anew so soon
PATIENCE_SECONDS = 8.0


def is_running(pid: int, started: float) -> bool:
    """Whether the process that had this id since this time still runs."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_orphans(state: State) -> list[str]:
    """End every process that the state names and that still runs; return their names."""
    ended = []
    for service in reversed(state.services):
        if service.pid is not None and service.started is not None:
            if is_running(service.pid, service.started):
                ended.append(service.name)
                os.kill(service.pid, signal.SIGTERM)
            end_session(service.pid, service.started)
    return ended


def end_session(leader: int, started: float, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for the processes of a session to go, the leader included, and kill those that stay."""
    deadline = time.monotonic() + patience_seconds
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
            # the id was given to a stranger, who leads a session of its own
            if process.pid == leader and not is_running(leader, started):
                return []
            if process.create_time() > started - SAME_START_SECONDS:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
