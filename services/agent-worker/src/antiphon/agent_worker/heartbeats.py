"""What the worker says of itself: its calls, every second and at each change, from the process that has none.

Calls run in processes of their own, so nothing of it touches a voice loop.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.contracts.workers import HEARTBEAT_SECONDS, WorkerHeartbeat, worker_subject
from antiphon.recorder.outbox import BusLink

COALESCE_SECONDS: Final = 0.05  # changes within it are one heartbeat
LAST_SECONDS: Final = 1.0  # for the last one: without it, ended calls count until the worker is silent


def new_worker_id() -> str:
    """Return the id of a worker; LiveKit's own is another one after each reconnect."""
    return f"wrk_{secrets.token_hex(8)}"


class Heartbeats:
    """The heartbeats of one worker, from the time when it may get calls."""

    def __init__(
        self,
        link: BusLink,
        *,
        pod: str | None,
        capacity: int | None,
        calls: Callable[[], int],
        draining: Callable[[], bool],
    ) -> None:
        self.worker = new_worker_id()
        self._link = link
        self._pod = pod
        self._capacity = capacity
        self._calls = calls
        self._draining = draining
        self._started_at = datetime.now(UTC)
        self._changed = asyncio.Event()
        self._begun = asyncio.Event()

    def begin(self, *_: object) -> None:
        """Begin: the worker gets calls from now on."""
        self._begun.set()

    def changed(self, *_: object) -> None:
        """Say soon what has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Say it until cancelled; without a connection nothing is said, and nothing is kept."""
        await self._begun.wait()
        bus = await self._link.bus()
        while True:
            self._changed.clear()
            await self._say(bus)
            await self._wait()

    async def end(self) -> None:
        """Say it for the last time, once the calls have ended; without a connection nothing is said."""
        if self._begun.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._say(await self._link.bus())

    async def _say(self, bus: Bus) -> None:
        beat = self._beat()
        await bus.announce(worker_subject(self.worker), msgspec.json.encode(beat))

    def _beat(self) -> WorkerHeartbeat:
        return WorkerHeartbeat(
            worker=self.worker,
            pod=self._pod,
            active_calls=self._calls(),
            capacity=self._capacity,
            draining=self._draining(),
            started_at=self._started_at,
        )

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return
        await asyncio.sleep(COALESCE_SECONDS)
