"""One timer serves every wait of a listening, and each wait keeps its own deadline."""

import asyncio
import time

from antiphon.chassis.bus import MISSED
from antiphon.chassis.bus.heard import QueueSubscription


def listening(limit: int = 10) -> QueueSubscription:
    return QueueSubscription(lambda _: None, limit)


async def test_a_shorter_wait_after_a_longer_one_ends_in_time() -> None:
    heard = listening()
    heard.put("a", b"1")
    assert await heard.next(60) == ("a", b"1")
    waiting = asyncio.create_task(heard.next(60))
    await asyncio.sleep(0)
    heard.put("a", b"2")
    assert await waiting == ("a", b"2")
    started = time.monotonic()

    assert await heard.next(0.05) is None

    assert time.monotonic() - started < 2


async def test_a_longer_wait_after_a_shorter_one_is_not_cut_short() -> None:
    heard = listening()
    waiting = asyncio.create_task(heard.next(0.05))
    await asyncio.sleep(0)
    heard.put("a", b"1")
    assert await waiting == ("a", b"1")

    waiting = asyncio.create_task(heard.next(30))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    heard.put("a", b"2")
    assert await waiting == ("a", b"2")


async def test_a_wait_without_a_deadline_outlives_an_old_timer() -> None:
    heard = listening()
    assert await heard.next(0.01) is None
    waiting = asyncio.create_task(heard.next())
    await asyncio.sleep(0.05)
    assert not waiting.done()

    await heard.close()

    assert await waiting is None


async def test_a_cancelled_wait_can_be_followed_by_another() -> None:
    heard = listening()
    waiting = asyncio.create_task(heard.next(30))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    heard.put("a", b"1")

    assert await heard.next(5) == ("a", b"1")


async def test_an_overflow_becomes_one_gap_and_then_what_followed() -> None:
    heard = listening(limit=3)
    for number in range(5):
        heard.put("a", b"%d" % number)

    assert await heard.next() is MISSED
    assert [await heard.next(), await heard.next()] == [("a", b"3"), ("a", b"4")]
    assert heard.dropped


async def test_gaps_in_a_row_are_one() -> None:
    heard = listening()
    heard.gap()
    heard.gap()

    assert await heard.next() is MISSED
    assert await heard.next(0.01) is None
