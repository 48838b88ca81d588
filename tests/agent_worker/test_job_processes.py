"""A worker whose job processes cannot start is not ready, however well it is connected."""

import pytest

from antiphon.agent_worker.worker import JobProcesses


class Process:
    """Stand for one process of the pool."""


async def test_a_process_that_dies_before_it_is_ready_makes_the_worker_unready() -> None:
    processes = JobProcesses()
    await processes.check()

    processes.on_closed(Process())

    with pytest.raises(RuntimeError, match="cannot start"):
        await processes.check()


async def test_the_end_of_a_call_is_no_failure() -> None:
    processes, process = JobProcesses(), Process()

    processes.on_ready(process)
    processes.on_closed(process)

    await processes.check()


async def test_a_process_that_starts_heals() -> None:
    processes = JobProcesses()
    processes.on_closed(Process())

    processes.on_ready(Process())

    await processes.check()
