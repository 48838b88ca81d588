import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """Words as the room showed them: who said them, and when they were complete (the loop's clock)."""

    who: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class StateChange:
    """The agent said that it listens, thinks or speaks."""

    state: str
    at: float


@dataclass(frozen=True, slots=True)
class DataMessage:
    """A data message, its JSON opened."""

    topic: str
    body: dict[str, Any]
    sender: str | None
    at: float


@dataclass(slots=True)
class Notebook:
    """What the caller has seen, in order, and a bell that rings with each thing."""

    lines: list[Line] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    data: list[DataMessage] = field(default_factory=list)
    ended: str | None = None  # why the agent is gone, once it is
    _bell: asyncio.Condition = field(default_factory=asyncio.Condition)
    _ringing: set[asyncio.Task[None]] = field(default_factory=set)

    def ring(self) -> None:
        """Let everyone who waits look again."""
        task = asyncio.create_task(self._ring())
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)

    async def wait_for(self, seen: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until it is seen or the call is over; return whether it was seen in time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._bell:
                await self._bell.wait_for(lambda: seen() or self.ended is not None)
        except TimeoutError:
            return False
        return seen()

    async def _ring(self) -> None:
        async with self._bell:
            self._bell.notify_all()

    @property
    def state(self) -> str | None:
        """What the agent does now."""
        return self.states[-1].state if self.states else None
