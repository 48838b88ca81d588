"""Waiting ends with the order to stop, and what is done in between does not."""

import asyncio

import pytest

from antiphon.persistence.patience import Interruptible, Patience, Stopped, or_stop


async def test_the_order_to_stop_ends_a_wait() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)

    async with Interruptible(stop) as unless_stopped:
        with pytest.raises(Stopped):
            await asyncio.wait_for(unless_stopped.wait(asyncio.Event().wait()), 5)


async def test_the_order_to_stop_does_not_end_what_is_done_between_waits() -> None:
    stop = asyncio.Event()
    async with Interruptible(stop) as unless_stopped:
        assert await unless_stopped.wait(asyncio.sleep(0, "in hand")) == "in hand"
        stop.set()
        await asyncio.sleep(0.05)  # the batch in hand is finished
        with pytest.raises(Stopped):
            await unless_stopped.wait(asyncio.sleep(0))


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    stop = asyncio.Event()

    async def waiting() -> None:
        async with Interruptible(stop) as unless_stopped:
            await unless_stopped.wait(asyncio.Event().wait())

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_what_is_waited_for_comes_through() -> None:
    async def fails() -> None:
        raise ValueError("so it is")

    async with Interruptible(asyncio.Event()) as unless_stopped:
        with pytest.raises(ValueError, match="so it is"):
            await unless_stopped.wait(fails())


async def test_a_result_that_is_there_wins_over_the_order_to_stop() -> None:
    stop = asyncio.Event()
    stop.set()

    assert await or_stop(asyncio.sleep(0, "there"), asyncio.Event()) == "there"
    with pytest.raises(Stopped):
        await or_stop(asyncio.sleep(10), stop)


async def test_a_pause_ends_with_the_order_to_stop() -> None:
    stop = asyncio.Event()
    patience = Patience(stop)
    await patience.pause()
    stop.set()

    with pytest.raises(Stopped):
        await asyncio.wait_for(patience.pause(), 5)
