"""Which session a job serves."""

import re
from dataclasses import dataclass

import msgspec
from livekit.agents import JobContext, JobRequest

from antiphon.contracts.ids import session_id_for_key

DEFAULT_TENANT = "default"

_SESSION_ID = re.compile(r"ses_[0-9a-hjkmnp-tv-z]{26}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Name a session and its tenant."""

    session_id: str
    tenant: str


class _Metadata(msgspec.Struct):
    session_id: str = ""
    tenant: str = DEFAULT_TENANT


def identity_of(ctx: JobContext | JobRequest) -> Identity:
    """Read the dispatch metadata that session-api writes.

    A room that was not made by session-api gets a session of its own: by its name when that is a session id,
    else by LiveKit's room sid, so that a second agent in the room writes to the same session.
    """
    try:
        metadata = msgspec.json.decode(ctx.job.metadata or "{}", type=_Metadata)
    except msgspec.DecodeError:  # somebody else's metadata
        metadata = _Metadata()
    for candidate in (metadata.session_id, ctx.job.room.name):
        if _SESSION_ID.fullmatch(candidate):
            return Identity(candidate, metadata.tenant)
    room = ctx.job.room.sid or ctx.job.room.name
    return Identity(session_id_for_key(metadata.tenant, f"room:{room}"), metadata.tenant)
