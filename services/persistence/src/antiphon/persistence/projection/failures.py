"""Events that a projection cannot fold: retried with a backoff, then the partition of the view is stalled."""

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from antiphon.chassis.log import sequence_of
from antiphon.chassis.personal_data import shown
from antiphon.contracts.envelope import Envelope
from antiphon.persistence import metrics
from antiphon.persistence.projection.checkpoint import Claim, Stalled, is_stalled, stall
from antiphon.persistence.projection.declaration import EventFailed, Projection
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

log = structlog.get_logger(__name__)

ATTEMPTS = 6  # then a partition is stalled, after about five seconds
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0
RESUMED_SECONDS = 1.0  # between two looks whether an operator has resumed the view


class Failures:
    """The partitions of a view that wait for another attempt, or for an operator."""

    def __init__(self, projection: Projection, readiness: ReadinessCheck, changed: asyncio.Event) -> None:
        self._projection = projection
        self._readiness = readiness
        self._changed = changed
        self._attempts: dict[int, int] = {}
        self._waiting: set[int] = set()  # for the next attempt
        self._stalled: dict[int, Stalled] = {}

    def may_be_read(self, held: Claim) -> bool:
        """Return whether a partition is neither stalled nor waits for its next attempt."""
        if held.stalled is not None or held.partition in self._stalled:
            return False
        return held.partition not in self._waiting

    def forget(self, partition: int) -> None:
        """Forget the failures of a partition: it works, or this process no longer holds it."""
        attempts, stalled = self._attempts.pop(partition, None), self._stalled.pop(partition, None)
        if stalled is not None:
            metrics.stalled.set(0, self._projection.name, str(partition))
        if attempts is not None or stalled is not None:
            self._readiness.healthy(self._component(partition))
        self._waiting.discard(partition)

    async def failed(
        self, connection: "Connection", held: Claim, envelope: Envelope, error: Exception
    ) -> None:
        """Count a failure of one event; after ATTEMPTS the partition is stalled."""
        partition = held.partition
        attempts = self._attempts[partition] = self._attempts.get(partition, 0) + 1
        cause = (error.__cause__ or error) if isinstance(error, EventFailed) else error
        stalled = Stalled(
            position=envelope.position if isinstance(envelope.position, int) else 0,
            session_id=envelope.subject,
            sequence=sequence_of(envelope),
            event_id=envelope.id,
            type=envelope.type,
            error=repr(cause),
            attempts=attempts,
            since=datetime.now(UTC),
        )
        if attempts == 1:
            log.warning("projection.event_failed", **self._fields(partition, stalled, cause), exc_info=error)
        if attempts < ATTEMPTS:
            seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2**attempts) * random.uniform(0.5, 1)
            self._waiting.add(partition)
            asyncio.get_running_loop().call_later(seconds, self._retry, partition)
            self._readiness.unhealthy(
                self._component(partition),
                f"cannot fold event {envelope.id} ({envelope.type}): {cause!r}",
                logged=f"cannot fold event {envelope.id} ({envelope.type})",
            )
        else:
            await stall(connection, self._projection, held, stalled)
            log.error("projection.stalled", **self._fields(partition, stalled, cause))
            self._stall(partition, stalled)
            self._look_again()

    async def resumed(self, connection: "Connection", claimed: Mapping[int, Claim]) -> list[int]:
        """Return the stalled partitions that an operator has resumed."""
        resumed = []
        for partition, held in claimed.items():
            if held.stalled is not None:
                self._stall(partition, held.stalled)
            if partition not in self._stalled:
                continue
            if await is_stalled(connection, self._projection, held):
                self._look_again()
            else:
                log.info("projection.resumed", projection=self._projection.name, partition=partition)
                resumed.append(partition)
        return resumed

    def _stall(self, partition: int, stalled: Stalled) -> None:
        self._stalled[partition] = stalled
        metrics.stalled.set(1, self._projection.name, str(partition))
        self._readiness.unhealthy(
            self._component(partition),
            f"{stalled}; see `persistence resume`",
            logged=f"stalled at event {stalled.event_id} ({stalled.type})",
        )

    def _retry(self, partition: int) -> None:
        self._waiting.discard(partition)
        self._changed.set()

    def _look_again(self) -> None:
        asyncio.get_running_loop().call_later(RESUMED_SECONDS, self._changed.set)

    def _component(self, partition: int) -> str:
        return f"projection {self._projection.name} partition {partition}"

    def _fields(self, partition: int, stalled: Stalled, cause: BaseException) -> dict[str, object]:
        return {
            "projection": self._projection.name,
            "partition": partition,
            "event_id": stalled.event_id,
            "event_type": stalled.type,
            "session_id": stalled.session_id,
            "sequence": stalled.sequence,
            "error": shown(cause),
            "pii_error": stalled.error,
        }
