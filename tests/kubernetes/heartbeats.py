"""Workers that say on a real NATS how many calls they have, which a test tells them."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from antiphon.chassis.bus import Bus
from antiphon.contracts.workers import WorkerHeartbeat, worker_subject

BEAT_SECONDS = 0.5
END_SECONDS = 30.0


class Workers:
    """The workers of pods: a thread that publishes a heartbeat of each, until it is closed."""

    def __init__(self, nats_url: str, *, capacity: int) -> None:
        self._url = nats_url
        self._capacity = capacity
        self._calls: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), name="workers", daemon=True)
        self._error: Exception | None = None
        self._thread.start()

    def have(self, calls: Mapping[str, int]) -> None:
        """Let these pods have so many calls each; other pods are gone."""
        self._calls = dict(calls)

    def close(self) -> None:
        """End the heartbeats. Raises what has ended them before."""
        self._stopping.set()
        self._thread.join(END_SECONDS)
        if self._error is not None:
            raise self._error

    async def _work(self) -> None:
        started_at = datetime.now(UTC)
        try:
            bus = await Bus.connect(self._url, name="workers")
            try:
                while not self._stopping.is_set():
                    for pod, calls in self._calls.items():
                        beat = WorkerHeartbeat(
                            worker=pod,
                            pod=pod,
                            active_calls=calls,
                            capacity=self._capacity,
                            draining=False,
                            started_at=started_at,
                        )
                        await bus.announce(worker_subject(pod), msgspec.json.encode(beat))
                    await asyncio.sleep(BEAT_SECONDS)
            finally:
                await bus.close()
        except Exception as error:  # noqa: BLE001 - raised by close()
            self._error = error
