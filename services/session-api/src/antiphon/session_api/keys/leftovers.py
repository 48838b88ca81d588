"""What changes of keys leave behind: new keys of rotations without an answer, markers of removed keys."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import InvalidKey, decode_key
from antiphon.contracts.streams import KEYS

SETTLE_SECONDS = 15.0  # after which a write that was sent has arrived, or never will
MARKER_SECONDS = 600.0  # every watch has seen a removal, or reads the bucket again
UNSETTLED = 1000  # rotations; the new key of a further one stays

log = structlog.get_logger(__name__)


class Leftovers:
    """Cleans up in the background, in a task that ends when there is nothing left to do."""

    def __init__(
        self,
        bus: Bus,
        clock: Callable[[], datetime],
        *,
        settle_seconds: float = SETTLE_SECONDS,
        marker_seconds: float = MARKER_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._marker_seconds = marker_seconds
        self._now = now
        self._unsettled: dict[str, str] = {}  # digests: of the new key, of the old one
        self._purge_at: float | None = None
        self._removed_at = 0.0  # the latest
        self._task: BackgroundTask | None = None
        self._working = False

    def rotation(self, new: str, old: str) -> None:
        """Remove the new key of a rotation later, unless the old one names it by then."""
        if len(self._unsettled) >= UNSETTLED:
            log.warning("keys.rotation_not_settled", key_sha256=old)
            return
        self._unsettled[new] = old
        self._start()

    def removed(self) -> None:
        """Purge the marker of an entry that was removed, once every replica has seen it."""
        self._removed_at = self._now()
        if self._purge_at is None:
            self._purge_at = self._removed_at + self._marker_seconds
        self._start()

    async def ready(self) -> None:
        """Raise BackgroundTaskFailed while cleaning up fails; for a reported check."""
        if self._task is not None:
            self._task.check()

    async def close(self) -> None:
        """Stop cleaning up."""
        if self._task is not None:
            await self._task.close()

    def _start(self) -> None:
        if not self._working:
            self._working = True
            self._task = BackgroundTask(self._clean, name="leftovers of keys")

    async def _clean(self) -> None:
        while self._unsettled or self._purge_at is not None:
            unsettled = list(self._unsettled.items())
            await asyncio.sleep(self._settle_seconds)
            for new, old in unsettled:
                await self._settle(new, old)
                del self._unsettled[new]
            if self._purge_at is not None and self._purge_at <= self._now():
                await self._purge()
        self._working = False

    async def _settle(self, new: str, old: str) -> None:
        bucket = await self._bus.bucket(KEYS.name)
        made = await bucket.entry(new)
        if made is None:
            return
        before = await bucket.entry(old)
        try:
            if (
                before is not None
                and decode_key(old, before.value).replaced_by == decode_key(new, made.value).id
            ):
                return
        except InvalidKey as error:
            log.warning("keys.rotation_not_settled", key_sha256=old, error=str(error))
            return
        await bucket.delete(new)
        self.removed()
        log.info("keys.rotation_undone", key_sha256=old)

    async def _purge(self) -> None:
        began, age = self._now(), self._marker_seconds
        bucket = await self._bus.bucket(KEYS.name)
        purged = await bucket.purge_removed(self._clock() - timedelta(seconds=age))
        later = self._removed_at + age  # a margin for the broker's clock: it sets the times of entries
        self._purge_at = (
            None if later <= began - self._settle_seconds else max(later, began) + self._settle_seconds
        )
        log.info("keys.markers_purged", entries=purged)
