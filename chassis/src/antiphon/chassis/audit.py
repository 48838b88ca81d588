"""Audit: an act is not begun unless its record is stored; its outcome is stored after it (ADR 37)."""

import getpass
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.audit import (
    LONGEST_TEXT,
    Act,
    Actor,
    AuditRecord,
    Outcome,
    Result,
    encode,
    new_audit_id,
    outcome_key,
    record_key,
)
from antiphon.contracts.streams import AUDIT

# A request has 8 s: it says in time that nothing was done, and answers what was done without an outcome.
RECORD_SECONDS = 4.0
OUTCOME_SECONDS = 2.5

log = get_logger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def operator() -> Actor:
    """Return who runs this command: the user of the operating system, and the host or pod."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return Actor(f"operator:{user}@{socket.gethostname()}"[:LONGEST_TEXT], operator=True)


class Audit:
    """Stores the records of acts in the bucket `audit`."""

    def __init__(
        self,
        bus: Bus,
        clock: Callable[[], datetime] = _now,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._entropy = entropy

    async def begin(self, act: Act) -> AuditRecord:
        """Store the record of an act that is about to be done.

        Raises BusUnavailable, also StreamFull: then the act must not be done.
        """
        record = AuditRecord(new_audit_id(self._clock(), self._entropy(10)), self._clock(), act)
        try:
            await self._store(record_key(act.tenant, record.id), encode(record), RECORD_SECONDS)
        except BusError as error:
            log.warning(
                "audit.act_refused", extra={"kind": act.kind, "target": act.target, "error": str(error)}
            )
            raise
        return record

    async def end(self, record: AuditRecord, result: Result, reason: str | None = None) -> None:
        """Store what came of an act; if that fails, it is logged: the act was done all the same."""
        outcome = Outcome(self._clock(), result, reason)
        try:
            await self._store(outcome_key(record.act.tenant, record.id), encode(outcome), OUTCOME_SECONDS)
        except BusError:
            found = {"audit_id": record.id, "result": result}
            log.exception("audit.outcome_not_stored", extra=found)

    @asynccontextmanager
    async def recorded(self, act: Act, *refusals: type[Exception]) -> AsyncIterator[None]:
        """Store the record of an act, let the block do it, and store what came of it.

        An exception among `refusals` says that nothing was changed. After another one nobody knows: the
        record stays without an outcome, as after a crash.
        Raises BusUnavailable, also StreamFull, before the act.
        """
        record = await self.begin(act)
        try:
            yield
        except refusals as refusal:
            await self.end(record, "refused", f"{type(refusal).__name__}: {refusal}"[:LONGEST_TEXT])
            raise
        await self.end(record, "done")

    async def _store(self, key: str, value: bytes, seconds: float) -> None:
        # Not `create`, which looks first: not everyone who writes records may read them. The key is new: when
        # it exists, an attempt whose answer was lost has made it.
        bucket = await self._bus.bucket(AUDIT.name)
        if not await bucket.update(key, value, 0, timeout_seconds=seconds):
            log.debug("audit.stored_already", extra={"key": key})
