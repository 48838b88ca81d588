"""When each key was last used: kept in memory, written to the bucket `keys` at most once a minute per key."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import USED_PREFIX
from antiphon.contracts.streams import KEYS
from antiphon.session_api.keys.records import Keys

WRITE_SECONDS = 60.0
PENDING = 10_000  # keys whose use is not written yet; the use of further ones is not


class KeyUsage:
    """Notes which keys are used and writes it down in the background.

    Each time has an entry of its own (`used.<sha256>`), so that writing it never touches the key's record.
    """

    def __init__(
        self, bus: Bus, keys: Keys, clock: Callable[[], datetime], *, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._write_seconds = write_seconds
        self._pending: dict[str, datetime] = {}
        self._task: BackgroundTask | None = None

    def touch(self, digest: str, at: datetime) -> None:
        """Note that a key is used."""
        if digest in self._pending or len(self._pending) < PENDING:
            self._pending[digest] = at

    def used_at(self, digest: str) -> datetime | None:
        """Return when a key was last used, on this replica or as others have written down."""
        known = [at for at in (self._keys.used_at(digest), self._pending.get(digest)) if at is not None]
        return max(known, default=None)

    def start(self) -> None:
        """Write in the background, until closed."""
        self._task = BackgroundTask(self._write_repeatedly, name="key usage")

    async def ready(self) -> None:
        """Raise BackgroundTaskFailed while writing fails; for a reported check."""
        if self._task is not None:
            self._task.check()

    async def close(self) -> None:
        """Stop writing."""
        if self._task is not None:
            await self._task.close()

    async def write(self) -> None:
        """Write what is not written yet; what fails stays for the next time.

        Raises BusUnavailable.
        """
        bucket = await self._bus.bucket(KEYS.name)
        for digest, at in list(self._pending.items()):
            # another replica may have written a later one; a key that is gone needs none
            if not self._is_newer(digest, at):
                self._forget(digest, at)
                continue
            await bucket.put(USED_PREFIX + digest, at.isoformat().encode())
            self._forget(digest, at)

    async def _write_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(self._write_seconds)
            await self.write()

    def _is_newer(self, digest: str, at: datetime) -> bool:
        if self._keys.get(digest) is None:
            return False
        written = self._keys.used_at(digest)
        return written is None or at - written >= timedelta(seconds=min(1.0, self._write_seconds))

    def _forget(self, digest: str, at: datetime) -> None:
        if self._pending.get(digest) == at:
            del self._pending[digest]
