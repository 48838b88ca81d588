"""The readiness of one part of the process."""

import structlog

from antiphon.persistence.errors import NotReady

log = structlog.get_logger(__name__)

STARTING = "is starting"


class ReadinessCheck:
    """The reasons why one part of the process is not ready; it is ready when there are none."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def starting(self, name: str) -> None:
        """Mark a component as not started yet."""
        self._reasons[name] = STARTING

    def unhealthy(self, name: str, reason: str) -> None:
        """Set the reason why a component does not work; log it if it is new."""
        if self._reasons.get(name) != reason:
            log.warning("readiness.unhealthy", component=name, reason=reason)
        self._reasons[name] = reason

    def healthy(self, name: str) -> None:
        """Clear the reason of a component; log the recovery."""
        if self._reasons.pop(name, STARTING) != STARTING:
            log.info("readiness.recovered", component=name)

    async def check(self) -> None:
        """Do nothing if every component works.

        Raises NotReady with all reasons.
        """
        names: dict[str, list[str]] = {}
        for name, reason in sorted(self._reasons.items()):
            names.setdefault(reason, []).append(name)
        if names:
            raise NotReady("; ".join(f"{', '.join(who)} {reason}" for reason, who in names.items()))
