"""Tenants, session ids, and deterministic event ids: a retry produces the same id, never a second event."""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Annotated

from msgspec import Meta

TENANT_PATTERN = "^[a-z0-9][a-z0-9-]{0,62}$"  # a name can be a token of a subject
DEFAULT_TENANT = "default"
SESSION_ID_PATTERN = "^ses_[0-9a-hjkmnp-tv-z]{26}$"

Tenant = Annotated[str, Meta(pattern=TENANT_PATTERN)]
SessionId = Annotated[str, Meta(pattern=SESSION_ID_PATTERN)]

LONGEST_KEY = 100  # of a note; a longer one is hashed

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: text sorts like the number
_LENGTH = 26
_tenant = re.compile(TENANT_PATTERN)
_session_id = re.compile(SESSION_ID_PATTERN)


def _base32(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def is_tenant(name: object) -> bool:
    """Return whether this is the name of a tenant: at most 63 of a-z, 0-9 and -."""
    return isinstance(name, str) and _tenant.fullmatch(name) is not None


def is_session_id(text: str) -> bool:
    """Return whether the text has the form of a session id."""
    return _session_id.fullmatch(text) is not None


def new_session_id(now: datetime, entropy: bytes) -> str:
    """Return a session id made from a UUIDv7 (RFC 9562 §5.7), whose random part is 10 bytes of entropy."""
    if len(entropy) != 10:
        raise ValueError(f"a session id takes 10 bytes of entropy, not {len(entropy)}")
    random = int.from_bytes(entropy, "big")
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    high, low = random >> 68, random & ((1 << 62) - 1)
    return "ses_" + _base32(milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


def session_id_for_key(secret: bytes, tenant: str, idempotency_key: str) -> str:
    """Return the session id derived from a tenant's idempotency key, under the secret of the deployment.

    The secret keeps clients from choosing a session's partition.
    """
    return _session_id_of(hmac.digest(secret, f"{tenant}\0{idempotency_key}".encode(), "sha256"))


def named_session_id(tenant: str, name: str) -> str:
    """Return the session id derived from a name that no client can choose."""
    return _session_id_of(hashlib.sha256(f"{tenant}\0{name}".encode()).digest())


def adopted_session_id(tenant: str, room_sid: str, call: int = 1) -> str:
    """Return the session id of the n-th call in a room that no client requested."""
    # LiveKit chooses the sid; the control character keeps these names from those of an agent's own.
    room = f"\x01room:{room_sid}"
    return named_session_id(tenant, room if call == 1 else f"\x01call:{call}:{room}")


def _session_id_of(digest: bytes) -> str:
    return "ses_" + _base32(int.from_bytes(digest[:16], "big"))


def requested_id(session_id: str) -> str:
    """Return the id of a session's only `session.requested`."""
    return f"{session_id}:requested"


def adopted_id(session_id: str) -> str:
    """Return the id of a session's only `session.adopted`, the same for every agent that adopts its room."""
    return f"{session_id}:adopted"


def dispatched_id(session_id: str, attempt: int) -> str:
    """Return the id of `session.dispatched` for one dispatch attempt."""
    return f"{session_id}:dispatched:{attempt}"


def dispatch_failed_id(session_id: str, attempt: int) -> str:
    """Return the id of `session.dispatch_failed` for one dispatch attempt."""
    return f"{session_id}:dispatch_failed:{attempt}"


def closed_id(session_id: str) -> str:
    """Return the id of a session's only `session.closed`, whichever agent writes it."""
    return f"{session_id}:closed"


def agent_event_id(session_id: str, job_id: str, number: int) -> str:
    """Return the id of the n-th event of an agent job."""
    return f"{session_id}:agent:{job_id}:{number}"


def agent_note_id(session_id: str, job_id: str, key: str) -> str:
    """Return the id of the event that a note becomes when its agent job was killed.

    A key that is long or not plain ASCII is replaced by its hash.
    """
    if len(key) > LONGEST_KEY or not (key.isascii() and key.isprintable()):
        key = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
    return f"{session_id}:agent:{job_id}:note:{key}"


def epoch_of(event_id: str, session_id: str) -> str:
    """Return the job of the agent that an event is of, from the event's id; empty if it is of none."""
    start = f"{session_id}:agent:"
    return event_id.removeprefix(start).partition(":")[0] if event_id.startswith(start) else ""


def webhook_event_id(webhook_id: str) -> str:
    """Return the id of a LiveKit webhook's event, derived from LiveKit's own id (`EV_…`)."""
    return f"lk:{webhook_id}"
