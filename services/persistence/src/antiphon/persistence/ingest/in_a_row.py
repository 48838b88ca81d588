"""Dead letters in a row: when they stop a partition, and when they only ask whose fault they are."""

from collections.abc import Sequence

import structlog

from antiphon.persistence.ingest.validate import DeadLetter, Validated, ValidEvent
from antiphon.persistence.metrics import dead_letters

log = structlog.get_logger(__name__)


class DeadLettersInARow:
    """The dead letters of one partition since its last valid event, counted in two kinds.

    `producers` are those that no client can cause, `clients` those that one could; neither kind ends a row
    of the other.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.producers = 0
        self.clients = 0
        self.last_of_producers = ""  # their errors
        self.last_of_clients = ""

    def until_limit(self, chunk: list[Validated]) -> list[Validated]:
        """Cut a chunk after the dead letter that reaches the limit."""
        producers, clients = self.producers, self.clients
        for index, validated in enumerate(chunk):
            if isinstance(validated, ValidEvent):
                producers = clients = 0
                continue
            if validated.by_client:
                clients += 1
            else:
                producers += 1
            if self.limit in (producers, clients):
                return chunk[: index + 1]
        return chunk

    def add(self, chunk: Sequence[Validated]) -> int:
        """Count a chunk that was committed, log its dead letters and return their number."""
        found = 0
        for validated in chunk:
            if isinstance(validated, ValidEvent):
                self.producers = self.clients = 0
                continue
            found += 1
            if validated.by_client:
                self.clients += 1
                self.last_of_clients = validated.error
            else:
                self.producers += 1
                self.last_of_producers = validated.error
            _report(validated)
        return found


def _report(letter: DeadLetter) -> None:
    dead_letters.add(1, letter.reason)
    log.warning(
        "ingest.dead_letter",
        position=letter.incoming.position,
        subject=letter.incoming.subject,
        tenant=letter.tenant,
        reason=letter.reason,
    )
