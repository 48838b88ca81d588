"""What keeps a part of this process from being ready, in words."""

import structlog

log = structlog.get_logger(__name__)


class NotReady(Exception):
    """A part of the process cannot do its work now."""


class Condition:
    """Collect the reasons why one part is not ready; no reason, and it is."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def starting(self, name: str) -> None:
        """Note that a piece of this part has not begun."""
        self._reasons[name] = "is starting"

    def bad(self, name: str, reason: str) -> None:
        """Note why a piece of this part cannot work, and log it when it is news."""
        if self._reasons.get(name) != reason:
            log.warning("not_ready", part=name, reason=reason)
        self._reasons[name] = reason

    def good(self, name: str) -> None:
        """Note that a piece of this part works."""
        if self._reasons.pop(name, "is starting") != "is starting":
            log.info("ready_again", part=name)

    async def check(self) -> None:
        """Fail with all reasons at once.

        Raises NotReady.
        """
        if self._reasons:
            raise NotReady("; ".join(f"{name} {reason}" for name, reason in sorted(self._reasons.items())))
