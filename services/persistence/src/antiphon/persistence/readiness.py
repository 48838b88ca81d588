"""The readiness of one part of the process."""

import time
from collections import deque
from collections.abc import Callable

import structlog

from antiphon.persistence.errors import NotReady

log = structlog.get_logger(__name__)

STARTING = "is starting"
RECENT_MINUTES = 10


class ReadinessCheck:
    """The reasons why one part of the process is not ready; it is ready when there are none.

    `of` is the part: who shows the reasons has named it, so they leave it out. Logs do not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, of: str = "") -> None:
        self._of = of
        self._clock = clock
        self._reasons: dict[str, str] = {}
        self._noticed: dict[str, deque[list[int]]] = {}  # minutes with their counts

    def starting(self, name: str, reason: str = STARTING) -> None:
        """Mark a component as not started yet."""
        self._reasons[name] = reason

    def unhealthy(self, name: str, reason: str, *, logged: str | None = None) -> None:
        """Set the reason why a component does not work; log it, or what it says of nobody, if it is new."""
        if self._reasons.get(name) != reason:
            log.warning("readiness.unhealthy", component=name, reason=reason if logged is None else logged)
        self._reasons[name] = reason

    def healthy(self, name: str) -> None:
        """Clear the reason of a component; log the recovery."""
        if self._reasons.pop(name, STARTING) != STARTING:
            log.info("readiness.recovered", component=name)

    def noticed(self, what: str, number: int) -> None:
        """Count something that an operator should look at, and that does not make the process unready."""
        if number == 0:
            return
        counts = self._noticed.setdefault(what, deque(maxlen=RECENT_MINUTES + 1))
        minute = int(self._clock() // 60)
        if not counts or counts[-1][0] != minute:
            counts.append([minute, 0])
        counts[-1][1] += number

    async def check(self) -> str:
        """Return what was noticed in the last ten minutes, if every component works.

        Raises NotReady with all reasons.
        """
        names: dict[str, list[str]] = {}
        for name, reason in sorted(self._reasons.items()):
            if part := name.removeprefix(self._of).strip():
                names.setdefault(reason, []).append(part)
            else:
                names.setdefault(reason, [])
        if names:
            raise NotReady("; ".join(f"{', '.join(who)} {reason}".strip() for reason, who in names.items()))
        since = self._clock() // 60 - RECENT_MINUTES
        recent = {
            what: sum(number for minute, number in counts if minute > since)
            for what, counts in self._noticed.items()
        }
        return "; ".join(
            f"{number} {what} in the last {RECENT_MINUTES} minutes"
            for what, number in recent.items()
            if number
        )
