"""Background tasks whose failures are noticed: logged, reported by a check, and followed by a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from itertools import count
from typing import TypeVar

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.personal_data import shown
from antiphon.chassis.retry import retrying

log = get_logger(__name__)

SETTLED_SECONDS = 5.0  # a restarted task that has run this long works again
CANCEL_SECONDS = 1.0  # between two attempts to cancel: a library may swallow one
# how the names of structlog's variables and OpenTelemetry's modules begin: not all who use this have them
LOG_FIELDS, SPANS = "structlog_", "opentelemetry.context"

T = TypeVar("T")


async def end_task(task: "asyncio.Task[T]", *, attempts: int | None = None) -> bool:
    """Cancel a task until it ends, at most `attempts` times if given; return whether it has ended.

    Its result is retrieved; a task that does not end is logged and stays.
    """
    for _ in count() if attempts is None else range(attempts):
        if task.done():
            break
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
    if not task.done():
        log.error("background.not_ended", extra={"task": task.get_name()})
        return False
    if not task.cancelled():
        task.exception()  # else asyncio logs that nobody asked for it
    return True


class BackgroundTaskFailed(Exception):
    """A background task fails; the message names it and its last error."""


class BackgroundTask:
    """A task that starts now and runs until its function returns or it is closed.

    When the function raises, it is called again after a backoff, without limit: it must allow that. It works
    for all: what it logs and asks of a database is not of the request or the span in which it was started.
    """

    def __init__(
        self, run: Callable[[], Awaitable[object]], *, name: str, settled_seconds: float = SETTLED_SECONDS
    ) -> None:
        self.name = name
        self.failures = 0  # since the start
        self._run = run
        self._settled_seconds = settled_seconds
        self._error: BaseException | None = None
        self._task = asyncio.create_task(
            retrying(Exception, on_retry=self._on_failure)(self._attempt), name=name, context=_of_nobody()
        )

    @property
    def done(self) -> bool:
        """Whether the function returned or the task was closed."""
        return self._task.done()

    def check(self) -> None:
        """Raise BackgroundTaskFailed while the task fails."""
        if self._error is not None:
            raise BackgroundTaskFailed(f"{self.name} fails: {self._error!r}")

    async def ready(self) -> None:
        """Raise BackgroundTaskFailed while the task fails; for `Health.add`."""
        self.check()

    async def ended(self) -> None:
        """Wait until the function has returned, or the task was closed."""
        await asyncio.wait([self._task])

    async def close(self) -> None:
        """Cancel the task and wait for its end."""
        await end_task(self._task)

    async def _attempt(self) -> None:
        settled = asyncio.get_running_loop().call_later(self._settled_seconds, self._settle)
        try:
            await self._run()
        finally:
            settled.cancel()
        self._settle()

    def _settle(self) -> None:
        if self._error is not None:
            log.info("background.recovered", extra={"task": self.name})
        self._error = None

    def _on_failure(self, error: BaseException, attempt: int) -> None:
        self.failures = attempt
        first = self._error is None  # the next ones are probably the same
        self._error = error
        log.error(
            "background.failed",
            extra={"task": self.name, "attempt": attempt, "error": shown(error), "pii_error": repr(error)},
            exc_info=error if first else None,
        )


def _of_nobody() -> Context:
    """Return the current context without its span and the fields of its log lines."""
    found = copy_context()
    for variable, value in found.items():
        if variable.name.startswith(LOG_FIELDS):
            found.run(variable.set, ...)  # what structlog takes for none
        elif type(value).__module__.startswith(SPANS):
            found.run(variable.set, type(value)())
    return found
