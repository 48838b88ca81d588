"""A stop event ends a wait, but not the work between two waits."""

import asyncio

import pytest

from antiphon.chassis.shutdown import ShuttingDown, StopAwareWait, delayed, wait_or_stop


async def answer() -> str:
    await asyncio.sleep(0)
    return "answer"


async def never() -> str:
    await asyncio.Event().wait()
    return ""


async def test_a_result_is_returned_and_a_set_stop_event_raises() -> None:
    stop = asyncio.Event()
    stop.set()

    assert await wait_or_stop(answer(), asyncio.Event()) == "answer"
    with pytest.raises(ShuttingDown):
        await wait_or_stop(never(), stop)


@pytest.mark.parametrize("which", [0, 1])
async def test_any_of_the_events_ends_a_wait(which: int) -> None:
    events = asyncio.Event(), asyncio.Event()

    async with StopAwareWait(*events) as wait:
        asyncio.get_running_loop().call_later(0.02, events[which].set)
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(wait(never), 5)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_both_events_at_once_end_a_wait() -> None:
    events = asyncio.Event(), asyncio.Event()

    async with StopAwareWait(*events) as wait:
        for event in events:
            asyncio.get_running_loop().call_later(0.02, event.set)
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(wait(never), 5)


async def test_work_between_two_waits_is_finished() -> None:
    stop = asyncio.Event()

    async with StopAwareWait(stop) as wait:
        assert await wait(answer) == "answer"
        stop.set()
        await asyncio.sleep(0.02)
        with pytest.raises(ShuttingDown):
            await wait(answer)


async def test_a_cancellation_is_not_a_stop() -> None:
    async def waiting() -> None:
        async with StopAwareWait(asyncio.Event()) as wait:
            await wait(never)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.02)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("error", [ValueError("failed"), TimeoutError("failed")])
async def test_an_error_of_the_function_passes(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async with StopAwareWait(asyncio.Event()) as wait:
        with pytest.raises(type(error), match="failed"):
            await wait(fail)


async def test_a_delayed_stop_comes_after_the_stop_and_at_once_without_a_delay() -> None:
    stop = asyncio.Event()
    async with delayed(stop, 0) as closing:
        assert closing is stop
    async with delayed(stop, 0.05) as closing:
        stop.set()
        assert not closing.is_set()
        await asyncio.wait_for(closing.wait(), 60)


async def test_a_delay_that_is_not_needed_any_more_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with delayed(asyncio.Event(), 300):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before
