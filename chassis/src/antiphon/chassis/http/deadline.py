"""The deadline of one request: `asyncio.timeout` at a quarter of its cost, for one that moves often."""

import asyncio
from types import TracebackType


class Deadline:
    """A context that cancels its task at a time and then raises TimeoutError; moving the time costs nothing.

    The timer is not moved with it: when it fires early, it is set again.
    """

    __slots__ = ("_cancelling", "_loop", "_task", "_timer", "_when", "expired")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._when: float | None = self._loop.time() + seconds
        self.expired = False

    def __enter__(self) -> "Deadline":
        task = asyncio.current_task()
        if task is None or self._when is None:
            raise RuntimeError("a deadline needs a task, and can be entered once")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._when, self._on_time)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._when = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def move(self, seconds: float) -> None:
        """Let the time be this many seconds from now."""
        self._when = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._when:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._when, self._on_time)

    def lift(self) -> None:
        """Cancel nothing any more."""
        self._when = None

    def _on_time(self) -> None:
        self._timer = None
        if self._when is None:
            return
        if self._loop.time() < self._when:
            self._timer = self._loop.call_at(self._when, self._on_time)
            return
        self.expired = True
        self._task.cancel()
