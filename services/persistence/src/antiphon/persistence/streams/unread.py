"""Find the messages of the stream that the log does not hold, wherever in the stream they are."""

import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from antiphon.chassis.bus import Bus, Incoming
from antiphon.chassis.database import Database
from antiphon.contracts.subjects import PROBE

CHUNK = 200  # messages per query

# The events of an erased session are not read again.
_KNOWN_EVENTS = """
select wanted.number
  from unnest($1::text[], $2::text[]) with ordinality as wanted (session_id, event_id, number)
 where exists (select from event_log as known
                where known.session_id = wanted.session_id and known.event_id = wanted.event_id)
    or exists (select from erased_sessions as erased where erased.session_id = wanted.session_id)
"""
_KNOWN_DEAD_LETTERS = "select sha256(payload) from dead_letters where sha256(payload) = any($1)"


class _Addressed(msgspec.Struct):
    id: str
    subject: str


_decoder = msgspec.json.Decoder(_Addressed)


async def unread_messages(bus: Bus, database: Database) -> AsyncIterator[list[Incoming]]:
    """Yield the messages that are neither in the event log nor among the dead letters, in order.

    The stream must take no messages meanwhile.
    Raises StreamMissing, HistoryGap, BusUnavailable, and any of POSTGRES_ERRORS.
    """
    chunk: list[Incoming] = []
    async for message in bus.all_messages():
        if message.subject == PROBE:
            continue
        chunk.append(message)
        if len(chunk) == CHUNK:
            yield await _not_in_log(database, chunk)
            chunk = []
    if chunk:
        yield await _not_in_log(database, chunk)


async def _not_in_log(database: Database, messages: Sequence[Incoming]) -> list[Incoming]:
    addresses = [_address(message.payload) for message in messages]
    sessions, events = [session for session, _ in addresses], [event for _, event in addresses]
    rows = await database.pool.fetch(_KNOWN_EVENTS, sessions, events)
    known = {row["number"] - 1 for row in rows}
    left = [message for number, message in enumerate(messages) if number not in known]
    if not left:
        return []
    hashes = [hashlib.sha256(message.payload).digest() for message in left]
    dead = {row[0] for row in await database.pool.fetch(_KNOWN_DEAD_LETTERS, hashes)}
    return [message for message, digest in zip(left, hashes, strict=True) if digest not in dead]


def _address(payload: bytes) -> tuple[str, str]:
    """Return session and id of an event; empty texts for anything else."""
    try:
        found = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    if "\0" in found.id + found.subject:  # Postgres cannot compare it, and no event of the log has it
        return "", ""
    return found.subject, found.id
