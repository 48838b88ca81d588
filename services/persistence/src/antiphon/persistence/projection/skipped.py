"""Events that a projection could not read: it skips them, and logs the first of each session and type."""

from collections import Counter
from collections.abc import Hashable
from typing import Any

import structlog

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError
from antiphon.contracts.registry import open_event

log = structlog.get_logger(__name__)

MAX_LOGGED = 10_000  # sessions and types that are remembered as logged


class SkippedEvents:
    """The events that one projection skipped since the last call of `log`."""

    def __init__(self, projection: str) -> None:
        self._projection = projection
        self._first: dict[Hashable, tuple[Envelope, str]] = {}
        self._counts: Counter[Hashable] = Counter()
        self._logged: dict[Hashable, None] = {}  # in order of time, as a set has none

    def add(self, envelope: Envelope) -> None:
        """Count an event that was skipped."""
        key = envelope.subject, envelope.type
        if key not in self._logged:
            self._first.setdefault(key, (envelope, _why(envelope)))
            self._counts[key] += 1

    def log(self) -> None:
        """Log the events added since the last call, one line per session and type, each only once."""
        if not self._first:
            return
        for key, (envelope, error) in self._first.items():
            log.warning(
                "projection.skipped_event", **self._fields(envelope), count=self._counts[key], error=error
            )
            self._logged[key] = None
        self._first.clear()
        self._counts.clear()
        for oldest in list(self._logged)[: len(self._logged) - MAX_LOGGED]:
            del self._logged[oldest]

    def _fields(self, envelope: Envelope) -> dict[str, Any]:
        return {
            "projection": self._projection,
            "session_id": envelope.subject,
            "event_type": envelope.type,
            "dataschema": envelope.dataschema,
            "sequence": envelope.sequence,
        }


def _why(envelope: Envelope) -> str:
    try:
        open_event(envelope)
    except ContractError as error:
        return f"{type(error).__name__}: {error}"
    return ""
