"""Flows in their buckets: revisions are made by compare and set, so that concurrent ones are all kept."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime

import msgspec

from antiphon.chassis.audit import Audit
from antiphon.chassis.bus import Bus, KeyExists
from antiphon.contracts.audit import Act, ActKind, Actor
from antiphon.contracts.flows import (
    MAX_SOURCE_BYTES,
    FlowRevision,
    FlowSummary,
    InvalidRecord,
    decode_revision,
    draft_key,
    revision_key,
)
from antiphon.contracts.streams import FLOW_DRAFTS, FLOWS
from antiphon.session_api.flows.checking import checked, too_large
from antiphon.session_api.flows.known import Flow, Flows
from antiphon.session_api.flows.preconditions import Precondition
from antiphon.session_api.problems import Problem

REVISIONS_PER_TENANT = 20_000  # of all flows together: a few KiB of memory each
HEADER_BYTES = 256  # that the broker adds to a value, at most
SEEN_SECONDS = 2.0  # for this replica to see its own change
SEEN_POLL_SECONDS = 0.005
BEHIND_SECONDS = 0.02  # for a replica of the broker to get what another one has


class FlowStore:
    """Stores and reads sources. Every method raises BusUnavailable."""

    def __init__(
        self, bus: Bus, flows: Flows, clock: Callable[[], datetime], *, check_seconds: float
    ) -> None:
        self._bus = bus
        self._flows = flows
        self._clock = clock
        self._audit = Audit(bus, clock)
        self.check_seconds = check_seconds

    async def publish(
        self, tenant: str, flow_id: str, source: str, precondition: Precondition, by: Actor
    ) -> tuple[FlowRevision, bool]:
        """Make a revision of a source and return it, and whether it is new: the newest may have the same.

        A new one is on record before it is made.

        Raises Problem: 412 when the precondition does not hold, and those of the check.
        """
        digest = sha256(source)
        newest = await self._newest(tenant, flow_id)
        if newest is not None and newest.sha256 == digest:
            return newest, False
        precondition.require(flow_id, newest)
        summary = await self._checked(flow_id, source)
        self._require_room(tenant)
        while True:
            record = self._record(summary, source, digest, 1 if newest is None else newest.revision + 1)
            key, value = revision_key(tenant, flow_id, record.revision), _encoded(record)
            try:
                name = f"{flow_id}@{record.revision}"
                async with self._audit.recorded(
                    Act(ActKind.FLOW_PUBLISH, tenant, by, name, {"sha256": digest})
                ):
                    await (await self._bus.bucket(FLOWS.name)).create(key, value)
            except KeyExists:  # published meanwhile by others; the deadline of the request ends the tries
                await asyncio.sleep(BEHIND_SECONDS)
                newest = await self._newest(tenant, flow_id)
                if newest is not None and newest.sha256 == digest:
                    return newest, False
                precondition.require(flow_id, newest)
            else:
                await self._see(key)
                return record, True

    async def draft(self, tenant: str, flow_id: str, source: str) -> FlowRevision:
        """Store a source that is no revision, and return it; it is kept for some days.

        Raises Problem, those of the check.
        """
        digest = sha256(source)
        record = self._record(await self._checked(flow_id, source), source, digest, 0)
        await (await self._bus.bucket(FLOW_DRAFTS.name)).put(
            draft_key(tenant, flow_id, digest), _encoded(record)
        )
        return record

    async def revision(self, tenant: str, flow_id: str, revision: int) -> FlowRevision | None:
        """Return a revision with its source, or None."""
        stored = await (await self._bus.bucket(FLOWS.name)).get(revision_key(tenant, flow_id, revision))
        if stored is None:
            return None
        try:
            return decode_revision(stored)
        except InvalidRecord as error:
            detail = f"Revision {revision} of the flow {flow_id!r} is damaged; publish it again."
            raise Problem(500, "internal-error", detail) from error

    async def _newest(self, tenant: str, flow_id: str) -> FlowRevision | None:
        # the watched bucket may be a little behind
        known = self._flows.latest_revision(tenant, flow_id) or 0
        newest = await self.revision(tenant, flow_id, known) if known else None
        while (later := await self.revision(tenant, flow_id, known + 1)) is not None:
            newest, known = later, known + 1
        return newest

    async def _checked(self, flow_id: str, source: str) -> FlowSummary:
        return await checked(self._bus, flow_id, source, self.check_seconds)

    def _record(self, summary: FlowSummary, source: str, digest: str, revision: int) -> FlowRevision:
        return FlowRevision(
            **msgspec.structs.asdict(summary),
            revision=revision,
            source=source,
            sha256=digest,
            created_at=self._clock(),
            origin="http",
        )

    def _require_room(self, tenant: str) -> None:
        if self._flows.count(tenant) >= REVISIONS_PER_TENANT:
            raise Problem(
                429,
                "quota-exceeded",
                f"The tenant has {REVISIONS_PER_TENANT} revisions of flows, and none can be removed.",
                retry_after_seconds=3600,
                quota="flow-revisions",
                limit=REVISIONS_PER_TENANT,
            )

    async def _see(self, key: str) -> None:
        """Wait for this replica to see a revision, so that the next request can use it."""
        for _ in range(int(SEEN_SECONDS / SEEN_POLL_SECONDS)):
            if self._flows.has(key):
                return
            await asyncio.sleep(SEEN_POLL_SECONDS)


def sha256(source: str) -> str:
    """Return the hash that tells sources apart."""
    return hashlib.sha256(source.encode()).hexdigest()


def shown(record: FlowRevision) -> Flow:
    """Return a revision without its source."""
    fields = {name: getattr(record, name) for name in Flow.__struct_fields__}
    return Flow(**fields)


def _encoded(record: FlowRevision) -> bytes:
    value = msgspec.json.encode(record)
    if len(value) > MAX_SOURCE_BYTES - HEADER_BYTES:
        raise too_large(len(value), ", as the JSON that is stored (quotes and line ends count twice)")
    return value
