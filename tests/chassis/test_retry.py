"""The retry policy: errors, attempts, deadline, stop."""

import asyncio
import time
from typing import Any

import pytest

from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown


class Flaky:
    """A function that fails a number of times, then returns."""

    def __init__(self, failures: int, error: type[Exception] = OSError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return "answer"


async def call(flaky: Flaky, **options: Any) -> str:
    return await retrying(OSError, **{"first_seconds": 0.01, **options})(flaky)


async def test_a_transient_error_is_retried_and_reported() -> None:
    reported: list[tuple[str, int]] = []

    assert await call(Flaky(2), on_retry=lambda error, n: reported.append((str(error), n))) == "answer"

    assert reported == [("1", 1), ("2", 2)]


async def test_any_other_error_is_raised_at_once() -> None:
    flaky = Flaky(1, ValueError)

    with pytest.raises(ValueError, match=r"\d"):
        await call(flaky)

    assert flaky.calls == 1


async def test_after_the_deadline_the_last_error_is_raised() -> None:
    flaky = Flaky(1_000_000)

    with pytest.raises(OSError, match=r"\d"):
        await call(flaky, timeout_seconds=0.1, longest_seconds=0.02)

    assert flaky.calls > 1


async def test_no_attempt_starts_after_the_deadline() -> None:
    flaky = Flaky(1_000_000)
    started = time.monotonic()

    with pytest.raises(OSError, match="1"):
        await call(flaky, timeout_seconds=1.0, first_seconds=60, longest_seconds=60)

    assert flaky.calls == 1
    assert time.monotonic() - started < 1


async def test_after_the_last_attempt_its_error_is_raised() -> None:
    flaky = Flaky(1_000_000)

    with pytest.raises(OSError, match="3"):
        await call(flaky, attempts=3)

    assert flaky.calls == 3


async def test_a_policy_may_serve_several_calls_at_once() -> None:
    retry = retrying(OSError, attempts=3, first_seconds=0.01)

    assert await asyncio.gather(*(retry(Flaky(2)) for _ in range(10))) == ["answer"] * 10
    with pytest.raises(OSError, match="3"):
        await retry(Flaky(3))


async def test_the_arguments_reach_every_attempt() -> None:
    received: list[tuple[int, str]] = []

    async def fail_once(number: int, *, name: str) -> None:
        received.append((number, name))
        if len(received) == 1:
            raise OSError

    await retrying(OSError, first_seconds=0.01)(fail_once, 1, name="a")

    assert received == [(1, "a"), (1, "a")]


async def test_a_stop_ends_the_backoff() -> None:
    stop = asyncio.Event()

    with pytest.raises(ShuttingDown):
        await call(Flaky(1), stop=stop, on_retry=lambda *_: stop.set(), first_seconds=60)


async def test_an_attempt_that_worked_for_a_while_starts_the_backoff_again() -> None:
    reported: list[int] = []
    calls = 0

    async def fails_three_times_and_once_after_a_while() -> str:
        nonlocal calls
        calls += 1
        if calls == 4:
            await asyncio.sleep(0.2)
        if calls <= 6:
            raise OSError(calls)
        return "answer"

    retry = retrying(
        OSError, first_seconds=0.01, settled_seconds=0.1, on_retry=lambda _, n: reported.append(n)
    )

    assert await retry(fails_three_times_and_once_after_a_while) == "answer"
    assert reported == [1, 2, 3, 1, 2, 3]
