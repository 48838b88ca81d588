"""Persistence as one synchronous step: commit to the event log, update the view, announce."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, committed, decode, encode, seal
from antiphon.contracts.event import Event
from antiphon.contracts.session import fold
from antiphon.contracts.subjects import committed_subject, partition_of, session_filter
from antiphon.contracts.views import (
    EMPTY_DOCUMENTS,
    SessionView,
    details,
    details_json,
    indexed,
    session_terms,
)


class FakePersistence:
    """A persistence that commits when a test calls it."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._committed: dict[str, list[Envelope]] = {}

    async def commit(
        self, session_id: str, *events: Event, tenant: str = "default", at: datetime | None = None
    ) -> list[Envelope]:
        """Publish events of a session and commit everything that is not committed yet."""
        for number, event in enumerate(events):
            envelope = seal(
                event,
                id=f"{session_id}:test:{len(self._committed.get(session_id, [])) + number}",
                session_id=session_id,
                tenant=tenant,
                producer="test",
                producerseq=number,
                time=at or datetime.now(UTC),
            )
            await self._bus.publish(outgoing(envelope))
        return await self.catch_up(session_id, tenant)

    async def catch_up(self, session_id: str, tenant: str = "default") -> list[Envelope]:
        """Commit the events of a session that are on the bus and not in the event log."""
        log = self._committed.setdefault(session_id, [])
        after = log[-1].position if log else 0
        assert isinstance(after, int)
        fresh: list[Envelope] = []
        async for incoming in self._bus.read(session_filter(tenant, session_id), after):
            sequence = len(log) + len(fresh) + 1
            fresh.append(committed(decode(incoming.payload), sequence, incoming.position))
        log += fresh
        await self._insert(fresh)
        await self._update_view(session_id, tenant, log)
        announcement = b"[" + b",".join(map(encode, fresh)) + b"]"
        await self._bus.announce(committed_subject(tenant, session_id), announcement)
        return fresh

    async def _insert(self, fresh: list[Envelope]) -> None:
        await self._database.pool.executemany(
            """insert into event_log (session_id, sequence, partition, position, tenant, event_id, type,
                   version, occurred_at, envelope)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
            [
                (
                    e.subject,
                    e.sequence,
                    partition_of(e.subject),
                    e.position,
                    e.tenant,
                    e.id,
                    e.type,
                    e.version,
                    e.time,
                    encode(e).decode(),
                )
                for e in fresh
            ],
        )

    async def _update_view(self, session_id: str, tenant: str, log: list[Envelope]) -> None:
        state = fold(session_id, tenant, log)
        documents = {name: msgspec.json.encode(getattr(state, name)).decode() for name in EMPTY_DOCUMENTS} | {
            "details": details_json(details(state))
        }
        columns = [
            name
            for name in SessionView.__struct_fields__
            if name not in documents and name != "metadata_terms"
        ]
        created_at = state.created_at or log[0].time
        row: Mapping[str, Any] = {
            **documents,
            **{name: getattr(state, name) for name in columns},
            "created_at": created_at,
            "user_id": state.user_id and indexed(state.user_id),
            "room": state.room and indexed(state.room),
            "metadata_terms": session_terms(state) or None,
        }
        names = ", ".join(row)
        values = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        updates = ", ".join(f"{name} = excluded.{name}" for name in row)
        await self._database.pool.execute(
            f"insert into sessions ({names}) values ({values}) "
            f"on conflict (session_id) do update set {updates}",
            *row.values(),
        )
