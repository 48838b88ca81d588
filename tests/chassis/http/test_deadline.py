"""A deadline cancels its task at its time, wherever that was moved to."""

import asyncio

import pytest

from antiphon.chassis.http.deadline import Deadline

LONG = 60


async def _moved(first_seconds: float, then_seconds: float) -> None:
    with Deadline(first_seconds) as deadline:
        deadline.move(then_seconds)
        await asyncio.sleep(LONG)


async def test_what_takes_too_long_raises_timeout_error() -> None:
    deadline = Deadline(0.05)

    with pytest.raises(TimeoutError), deadline:
        await asyncio.sleep(LONG)

    assert deadline.expired
    await asyncio.sleep(0)  # the task is not cancelled any more


async def test_a_moved_deadline_holds_at_its_new_time() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    with pytest.raises(TimeoutError):
        await _moved(0.05, 0.2)

    assert loop.time() - started >= 0.2


async def test_a_deadline_can_be_moved_forward() -> None:
    with pytest.raises(TimeoutError):
        await _moved(LONG, 0.05)


async def test_a_lifted_deadline_cancels_nothing() -> None:
    with Deadline(0.05) as deadline:
        deadline.lift()
        await asyncio.sleep(0.15)

    assert not deadline.expired


async def test_a_deadline_is_over_with_its_block() -> None:
    with Deadline(0.05):
        pass

    await asyncio.sleep(0.15)


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def hang() -> None:
        with Deadline(LONG):
            await asyncio.sleep(LONG)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), Deadline(LONG):
        raise ZeroDivisionError
