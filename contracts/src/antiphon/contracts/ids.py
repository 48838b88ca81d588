"""Ids that a retry makes again: the same fact has the same id, whenever it is told."""

import hashlib
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: sorts as the number does
_LENGTH = 26


def _base32(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def new_session_id(now: datetime, entropy: bytes) -> str:
    """Make a session id of a UUIDv7: 48 bits of milliseconds, then 10 bytes of entropy (RFC 9562 §5.7)."""
    if len(entropy) != 10:
        raise ValueError(f"a session id takes 10 bytes of entropy, not {len(entropy)}")
    random = int.from_bytes(entropy, "big")
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    high, low = random >> 68, random & ((1 << 62) - 1)
    return "ses_" + _base32(milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def session_id_for_key(tenant: str, idempotency_key: str) -> str:
    """Make the session id that a tenant's idempotency key stands for."""
    digest = hashlib.sha256(f"{tenant}\0{idempotency_key}".encode()).digest()
    return "ses_" + _base32(int.from_bytes(digest[:16], "big"))


def requested_id(session_id: str) -> str:
    """Name the one request of a session."""
    return f"{session_id}:requested"


def dispatched_id(session_id: str, attempt: int) -> str:
    """Name the success of one attempt to dispatch."""
    return f"{session_id}:dispatched:{attempt}"


def dispatch_failed_id(session_id: str, attempt: int) -> str:
    """Name the failure of one attempt to dispatch."""
    return f"{session_id}:dispatch_failed:{attempt}"


def agent_event_id(session_id: str, job_id: str, number: int) -> str:
    """Name the n-th event of one agent job."""
    return f"{session_id}:agent:{job_id}:{number}"


def webhook_event_id(webhook_id: str) -> str:
    """Name the event of a LiveKit webhook by LiveKit's own id (`EV_…`)."""
    return f"lk:{webhook_id}"
