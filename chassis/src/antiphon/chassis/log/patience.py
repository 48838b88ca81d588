"""Wait a little longer each time, and say once that we wait."""

import asyncio
import random

import structlog

log = structlog.get_logger(__name__)

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0


class Patience:
    """Pause between tries that fail, with jitter, for as long as it takes."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._seconds = FIRST_SECONDS

    async def wait(self, reason: Exception) -> None:
        """Pause; the first time, log why."""
        if self._seconds == FIRST_SECONDS:
            log.warning("follow.waiting", who=self._who, error=str(reason))
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1.0))
        self._seconds = min(self._seconds * 2, LONGEST_SECONDS)

    def reset(self) -> None:
        """Start again from the shortest pause."""
        self._seconds = FIRST_SECONDS
