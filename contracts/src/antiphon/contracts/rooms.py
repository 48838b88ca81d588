"""Adopted rooms: the value that recorders write to the bucket `rooms`, and webhook-ingest reads."""

import re
from datetime import datetime

import msgspec

from antiphon.contracts.ids import SessionId, Tenant

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AdoptedRoom(msgspec.Struct, frozen=True):
    """The newest session of a room, its tenant, and when its room was adopted."""

    session_id: SessionId
    tenant: Tenant
    adopted_at: datetime | None = None


_decoder = msgspec.json.Decoder(AdoptedRoom)


def room_key(room_sid: str | None) -> str | None:
    """Return the key of a room in the bucket, or None for a sid that is none."""
    return room_sid if room_sid and _KEY.fullmatch(room_sid) else None


def encode_room(room: AdoptedRoom) -> bytes:
    """Encode the value of a room."""
    return msgspec.json.encode(room)


def decode_room(value: bytes) -> AdoptedRoom | None:
    """Decode the value of a room; None for a value that is not one."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
