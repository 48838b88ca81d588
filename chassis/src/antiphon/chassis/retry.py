"""Retry with exponential backoff and jitter: the one policy of every service."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from antiphon.chassis.shutdown import wait_or_stop

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")

OnRetry = Callable[[BaseException, int], object]  # the error, and the attempt that raised it, from 1


class Retry(Protocol):
    """A retry policy: call it with a function and its arguments."""

    async def __call__(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
        """Call the function until it succeeds or the policy gives up."""
        ...


def retrying(
    *errors: type[Exception],
    on_retry: OnRetry | None = None,
    stop: asyncio.Event | None = None,
    attempts: int | None = None,
    timeout_seconds: float | None = None,
    first_seconds: float = FIRST_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
) -> Retry:
    """Return the retry policy for some errors; call it with a function and its arguments.

    It raises the last error after so many attempts, or when the next attempt would start after the deadline;
    a running attempt is not cut short. Without both limits it never gives up.
    It raises ShuttingDown when `stop` is set during a backoff.
    """

    async def call(function: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
        started = time.monotonic()
        try:
            return await function(*arguments, **named)  # no cost beyond the call unless it fails
        except errors as error:
            first_error: Exception | None = error

        async def attempt() -> T:
            nonlocal first_error
            if first_error is not None:
                error, first_error = first_error, None
                raise error
            return await function(*arguments, **named)

        limits: list[stop_base] = []
        if attempts is not None:
            limits.append(stop_after_attempt(attempts))
        if timeout_seconds is not None:
            limits.append(stop_before_delay(timeout_seconds - (time.monotonic() - started)))
        policy = AsyncRetrying(
            retry=retry_if_exception_type(errors),
            wait=wait_random_exponential(first_seconds, longest_seconds, min=first_seconds / 2),
            stop=stop_any(*limits),
            sleep=_sleep_until(stop),
            before_sleep=_report_to(on_retry),
            reraise=True,
        )
        return await policy(attempt)

    return call


def _sleep_until(stop: asyncio.Event | None) -> Callable[[float], Awaitable[None]]:
    async def sleep(seconds: float) -> None:
        if stop is None:
            await asyncio.sleep(seconds)
        else:
            await wait_or_stop(asyncio.sleep(seconds), stop)

    return sleep


def _report_to(on_retry: OnRetry | None) -> Callable[[RetryCallState], None]:
    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if on_retry is not None and error is not None:
            on_retry(error, state.attempt_number)

    return before_sleep
