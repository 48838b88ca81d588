"""Audit records: who changed keys, flows or what is stored, from where, and what came of it (ADR 37).

The record of an act is stored before the act, and its outcome after it, under `<tenant>.<id>` and
`<tenant>.<id>.outcome` of a bucket that takes each key once. Without an outcome nobody knows whether the
act took effect. They hold ids, no secrets, names or texts.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from antiphon.contracts.errors import ContractError
from antiphon.contracts.ids import new_session_id

AUDIT_ID_PATTERN = "^aud_[0-9a-hjkmnp-tv-z]{26}$"
DEPLOYMENT = "-"  # in the place of a tenant, for acts on the whole deployment; no tenant has this name
OUTCOME = "outcome"
LONGEST_TEXT = 256  # of a target, a detail or a reason

_audit_id = re.compile(AUDIT_ID_PATTERN)
T = TypeVar("T")
Result = Literal["done", "refused"]


class ActKind(StrEnum):
    """What was done."""

    KEY_BOOTSTRAP = "key.bootstrap"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    KEY_ROTATE = "key.rotate"
    FLOW_PUBLISH = "flow.publish"
    SESSION_ERASE = "session.erase"
    STREAM_RECREATE = "stream.recreate"


class InvalidAudit(ContractError):
    """The entry is not an audit record."""


class Actor(Struct, frozen=True, omit_defaults=True):
    """Who acts, and from where: `key:<id of the key>`, `service:<name>` or `operator:<user>@<host>`.

    Tenants are not told which of the operators it was.
    """

    name: str
    operator: bool = False
    address: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class Act(Struct, frozen=True, omit_defaults=True):
    """What an actor is about to do to a target; `tenant` is DEPLOYMENT when it is of no tenant."""

    kind: ActKind
    tenant: str
    actor: Actor
    target: str
    details: dict[str, str] = {}


class AuditRecord(Struct, frozen=True, omit_defaults=True):
    """An act that was about to begin."""

    id: str
    at: datetime
    act: Act


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What came of an act: `refused` changed nothing."""

    at: datetime
    result: Result
    reason: str | None = None


_encode = msgspec.json.Encoder(order="deterministic").encode
_record = msgspec.json.Decoder(AuditRecord)
_outcome = msgspec.json.Decoder(Outcome)


def new_audit_id(now: datetime, entropy: bytes) -> str:
    """Return the id of a new record, made like that of a session."""
    return "aud_" + new_session_id(now, entropy).removeprefix("ses_")


def is_audit_id(text: str) -> bool:
    """Return whether a text has the form of a record's id."""
    return _audit_id.fullmatch(text) is not None


def record_key(tenant: str, audit_id: str) -> str:
    """Return the key of a record in the bucket."""
    return f"{tenant}.{audit_id}"


def outcome_key(tenant: str, audit_id: str) -> str:
    """Return the key of the outcome of an act."""
    return f"{tenant}.{audit_id}.{OUTCOME}"


def records_filter(tenant: str | None) -> str:
    """Return the filter of all records, not outcomes, of a tenant or of all."""
    return f"{tenant or '*'}.*"


def encode(value: AuditRecord | Outcome) -> bytes:
    """Encode a record or an outcome as the bucket holds it."""
    return _encode(value)


def decode_record(value: bytes) -> AuditRecord:
    """Decode a record.

    Raises InvalidAudit.
    """
    return _decoded(_record, value)


def decode_outcome(value: bytes) -> Outcome:
    """Decode an outcome.

    Raises InvalidAudit.
    """
    return _decoded(_outcome, value)


def _decoded(decoder: "msgspec.json.Decoder[T]", value: bytes) -> T:
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAudit(str(error)) from error
