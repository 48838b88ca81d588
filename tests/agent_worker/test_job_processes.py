"""A worker whose job processes cannot start is not ready."""

import pytest

from antiphon.agent_worker.worker import JobProcesses


class Process:
    """A process of the pool."""


async def test_process_that_fails_to_start_makes_the_worker_unready() -> None:
    processes = JobProcesses()
    await processes.check()

    processes.on_closed(Process())

    with pytest.raises(RuntimeError, match="cannot start"):
        await processes.check()


async def test_end_of_an_initialised_process_is_not_a_failure() -> None:
    processes, process = JobProcesses(), Process()

    processes.on_ready(process)
    processes.on_closed(process)

    await processes.check()


async def test_process_that_starts_makes_the_worker_ready_again() -> None:
    processes = JobProcesses()
    processes.on_closed(Process())

    processes.on_ready(Process())

    await processes.check()
