"""Retry with exponential backoff and jitter: the one policy of every service."""

import asyncio
from collections.abc import Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from antiphon.chassis.shutdown import wait_or_stop

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0

OnRetry = Callable[[BaseException, int], object]  # the error, and which attempt it ended, from 1


def retrying(
    *errors: type[Exception],
    on_retry: OnRetry | None = None,
    stop: asyncio.Event | None = None,
    timeout_seconds: float | None = None,
    first_seconds: float = FIRST_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
) -> AsyncRetrying:
    """Make the retry policy for some errors; call it with a function and its arguments.

    Without `timeout_seconds` it never gives up; with it, it raises the last error once the time is over.
    It raises ShuttingDown when `stop` is set during a backoff.
    """

    async def sleep(seconds: float) -> None:
        if stop is None:
            await asyncio.sleep(seconds)
        else:
            await wait_or_stop(asyncio.sleep(seconds), stop)

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if on_retry is not None and error is not None:
            on_retry(error, state.attempt_number)

    return AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait_random_exponential(multiplier=first_seconds, max=longest_seconds, min=first_seconds / 2),
        stop=stop_never if timeout_seconds is None else stop_after_delay(timeout_seconds),
        sleep=sleep,
        before_sleep=before_sleep,
        reraise=True,
    )
