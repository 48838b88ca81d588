"""Retry with exponential backoff and jitter, the same way in every service."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

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


class _Settled(BaseException):
    """An attempt failed after it had worked for a while."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class retrying:  # noqa: N801 - lower case, as contextlib.closing
    """A retry policy for some errors; call it with a function and its arguments.

    It raises the last error after `attempts`, or when the next attempt would start after the deadline;
    a running attempt is not cut short. Without both limits it never gives up.
    It raises ShuttingDown when `stop` is set during a backoff. An attempt that worked for `settled_seconds`
    before it failed counts as the first: the backoff starts again.
    """

    def __init__(
        self,
        *errors: type[Exception],
        on_retry: OnRetry | None = None,
        stop: asyncio.Event | None = None,
        attempts: int | None = None,
        timeout_seconds: float | None = None,
        first_seconds: float = FIRST_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
        settled_seconds: float | None = None,
    ) -> None:
        self._errors = errors
        self._on_retry = on_retry
        self._stop = stop
        self._attempts = attempts
        self._timeout_seconds = timeout_seconds
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._settled_seconds = settled_seconds

    async def __call__(self, function: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
        """Call the function until it succeeds or the policy gives up."""
        started = time.monotonic()
        try:
            return await function(*arguments, **named)  # a hot path pays for tenacity only when this fails
        except self._errors as error:
            first_error: Exception | None = error

        async def attempt() -> T:
            nonlocal first_error
            if first_error is not None:
                error, first_error = first_error, None
                raise error
            began = time.monotonic()
            try:
                return await function(*arguments, **named)
            except self._errors as error:
                if self._settled_seconds is None or time.monotonic() - began < self._settled_seconds:
                    raise
                raise _Settled(error) from error

        while True:
            try:
                return await self._policy(elapsed_seconds=time.monotonic() - started)(attempt)
            except _Settled as settled:
                first_error, started = settled.error, time.monotonic()

    def _policy(self, elapsed_seconds: float) -> AsyncRetrying:
        limits: list[stop_base] = []
        if self._attempts is not None:
            limits.append(stop_after_attempt(self._attempts))
        if self._timeout_seconds is not None:
            limits.append(stop_before_delay(self._timeout_seconds - elapsed_seconds))
        return AsyncRetrying(
            retry=retry_if_exception_type(self._errors),
            wait=wait_random_exponential(
                self._first_seconds, self._longest_seconds, min=self._first_seconds / 2
            ),
            stop=stop_any(*limits),
            sleep=self._sleep,
            before_sleep=self._report,
            reraise=True,
        )

    async def _sleep(self, seconds: float) -> None:
        if self._stop is None:
            await asyncio.sleep(seconds)
        else:
            await wait_or_stop(asyncio.sleep(seconds), self._stop)

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if self._on_retry is not None and error is not None:
            self._on_retry(error, state.attempt_number)
