"""Audit records as the API shows them: read from their bucket in the order in which they were stored."""

import asyncio
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import structlog
from msgspec import Struct

from antiphon.chassis.bus import Bus
from antiphon.contracts.audit import (
    DEPLOYMENT,
    ActKind,
    AuditRecord,
    InvalidAudit,
    Outcome,
    decode_outcome,
    decode_record,
    is_audit_id,
    outcome_key,
    records_filter,
)
from antiphon.contracts.ids import is_tenant
from antiphon.contracts.streams import AUDIT
from antiphon.session_api.pagination import invalid_cursor

SCANNED = 5000  # records of one page, those that the filters leave out included
CLOCKS_APART = timedelta(minutes=10)  # of the broker and of those who act
OPERATOR = "operator"  # to a tenant they are all one

log = structlog.get_logger(__name__)


class AuditEntry(Struct, frozen=True):
    """An act on keys, flows or what is stored: who did it, from where, and what came of it.

    `outcome` is `unknown` while it is done, and stays so if nobody knows whether it took effect: the service
    was stopped, or a server did not answer. `tenant` is null for an act on the whole deployment.
    """

    id: str
    at: datetime
    tenant: str | None
    kind: ActKind
    actor: str
    target: str
    details: dict[str, str]
    address: str | None
    request_id: str | None
    trace_id: str | None
    outcome: Literal["done", "refused", "unknown"]
    outcome_at: datetime | None
    reason: str | None


class Wanted(NamedTuple):
    """Which records: of a tenant or of all, of these kinds, by an actor, in a time."""

    tenant: str | None
    kinds: frozenset[ActKind]
    actor: str | None
    since: datetime | None
    until: datetime | None
    operator: bool  # whether the reader is one

    def has(self, record: AuditRecord) -> bool:
        """Return whether a record is wanted."""
        return (
            (not self.kinds or record.act.kind in self.kinds)
            and (self.actor is None or self.actor == self.actor_of(record))
            and (self.since is None or record.at >= self.since)
            and (self.until is None or record.at < self.until)
        )

    def actor_of(self, record: AuditRecord) -> str:
        """Return the name of an actor, as this reader may know it."""
        by = record.act.actor
        return OPERATOR if by.operator and not self.operator else by.name


class AuditPage(NamedTuple):
    """Entries, and the key of the last record that was looked at if there are more."""

    entries: list[AuditEntry]
    following: str | None


class AuditReader:
    """Reads pages of records."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, wanted: Wanted, after: str | None, limit: int) -> AuditPage:
        """Return the first records after one, oldest first; a page may be short and have more.

        Raises Problem 422 for a record that does not exist or that is of another tenant, BusUnavailable.
        """
        bucket, pattern = await self._bus.bucket(AUDIT.name), records_filter(wanted.tenant)
        start: int | None = 0
        if after is not None:
            _require_own(wanted.tenant, after)
            entry = await bucket.entry(after)
            if entry is None:
                raise invalid_cursor()
            start = entry.revision
        elif wanted.since is not None:
            start = await bucket.revision_before(pattern, wanted.since - CLOCKS_APART)
        if start is None:
            return AuditPage([], None)
        found: list[AuditRecord] = []
        last, scanned = "", 0
        async with aclosing(bucket.entries_after(pattern, start)) as entries:
            async for key, entry in entries:
                if len(found) == limit or scanned == SCANNED:
                    return AuditPage(await self._with_outcomes(wanted, found), last)
                last, scanned = key, scanned + 1
                record = _readable(key, entry.value)
                if record is not None and wanted.has(record):
                    found.append(record)
        return AuditPage(await self._with_outcomes(wanted, found), None)

    async def _with_outcomes(self, wanted: Wanted, found: list[AuditRecord]) -> list[AuditEntry]:
        outcomes = await asyncio.gather(*map(self._outcome, found))
        return [_entry(wanted, *pair) for pair in zip(found, outcomes, strict=True)]

    async def _outcome(self, record: AuditRecord) -> Outcome | None:
        key = outcome_key(record.act.tenant, record.id)
        stored = await (await self._bus.bucket(AUDIT.name)).get(key)
        try:
            return None if stored is None else decode_outcome(stored)
        except InvalidAudit as error:
            log.warning("audit.malformed", key=key, error=str(error))
            return None


def _require_own(tenant: str | None, key: str) -> None:
    of, _, audit_id = key.partition(".")
    if not ((is_tenant(of) or of == DEPLOYMENT) and is_audit_id(audit_id) and tenant in {None, of}):
        raise invalid_cursor()


def _readable(key: str, value: bytes) -> AuditRecord | None:
    try:
        return decode_record(value)
    except InvalidAudit as error:
        log.warning("audit.malformed", key=key, error=str(error))
        return None


def _entry(wanted: Wanted, record: AuditRecord, outcome: Outcome | None) -> AuditEntry:
    act, by = record.act, record.act.actor
    shown = wanted.operator or not by.operator
    return AuditEntry(
        id=record.id,
        at=record.at,
        tenant=None if act.tenant == DEPLOYMENT else act.tenant,
        kind=act.kind,
        actor=wanted.actor_of(record),
        target=act.target,
        details=act.details,
        address=by.address if shown else None,
        request_id=by.request_id if shown else None,
        trace_id=by.trace_id if shown else None,
        outcome="unknown" if outcome is None else outcome.result,
        outcome_at=None if outcome is None else outcome.at,
        reason=None if outcome is None else outcome.reason,
    )
