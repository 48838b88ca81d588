"""`session.adopted`: the first event of a session that no client requested."""

from typing import Any

import msgspec
from livekit.agents import JobContext

from antiphon.chassis.library_log import get_logger
from antiphon.contracts.events.session import SessionAdopted
from antiphon.recorder.readiness import encodable

log = get_logger(__name__)

METADATA_LIMIT_BYTES = 16 * 1024  # as for sessions that a client requests
TEXT_LIMIT = 256  # characters
MAX_DEPTH = 64  # levels of nesting


def session_adopted(
    ctx: JobContext, *, user_id: str | None, language: str | None, metadata: dict[str, Any] | None
) -> SessionAdopted:
    """Return the event for the room of a job; what cannot be stored is left out, with a warning."""
    job = ctx.job
    return SessionAdopted(
        room=job.room.name,
        room_sid=job.room.sid or None,
        agent_name=job.agent_name or None,
        user_id=_text("user_id", user_id),
        language=_text("language", language),
        metadata=_storable(metadata),
    )


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= TEXT_LIMIT and value.isprintable():
        return value
    text = encodable(str(value))[:TEXT_LIMIT]
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    log.warning("recorder.text_changed", extra={"field": name, "limit": TEXT_LIMIT})
    return text or None


def _storable(metadata: object) -> dict[str, Any]:
    if metadata is None:
        return {}
    try:
        encoded = msgspec.json.encode(metadata)
        decoded: object = msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        return _left_out(f"it is not JSON: {type(error).__name__}")
    if not isinstance(decoded, dict):
        return _left_out("it is not a dict")
    if len(encoded) > METADATA_LIMIT_BYTES:
        return _left_out(f"{len(encoded)} bytes as JSON; at most {METADATA_LIMIT_BYTES} are stored")
    if _depth(decoded) > MAX_DEPTH:
        return _left_out(f"it is nested deeper than {MAX_DEPTH} levels")
    return decoded


def _left_out(why: str) -> dict[str, Any]:
    log.warning("recorder.metadata_left_out", extra={"why": why})
    return {}


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth
