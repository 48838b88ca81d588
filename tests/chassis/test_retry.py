import asyncio
from typing import Any

import pytest

from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown


class Flaky:
    """Fail a number of times, then answer."""

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


async def test_any_other_error_passes_at_once() -> None:
    flaky = Flaky(1, ValueError)

    with pytest.raises(ValueError, match=r"\d"):
        await call(flaky)

    assert flaky.calls == 1


async def test_after_the_deadline_the_last_error_is_raised() -> None:
    flaky = Flaky(1_000_000)

    with pytest.raises(OSError, match=r"\d"):
        await call(flaky, timeout_seconds=0.1, longest_seconds=0.02)

    assert flaky.calls > 1


async def test_a_stop_ends_the_backoff() -> None:
    stop = asyncio.Event()

    with pytest.raises(ShuttingDown):
        await call(Flaky(1), stop=stop, on_retry=lambda *_: stop.set(), first_seconds=60)
