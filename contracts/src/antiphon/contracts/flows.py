"""Flows outside of the agent that runs them: their stored revisions and drafts, and the check of a source.

An agent worker checks a source where it would run; publishers ask for it on FLOW_CHECK.
"""

import re
from datetime import datetime
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from antiphon.contracts.errors import ContractError

FLOW_ID_PATTERN = r"^[a-z][a-z0-9-]{0,62}$"
MAX_SOURCE_BYTES = 512 * 1024
FLOW_CHECK = "antiphon.flows.check"  # the subject of a core NATS request; any agent worker answers
FLOW_CHECKERS = "flow-checkers"  # the queue group of those who answer
MAX_PROBLEMS = 100  # that an answer lists
MAX_REASON = 1_000  # characters

T = TypeVar("T")

_flow_id = re.compile(FLOW_ID_PATTERN)


class InvalidRecord(ContractError):
    """A message or a record about a flow cannot be read."""


class FlowProblem(Struct, frozen=True, kw_only=True):
    """One error in a flow: the line (from 1), the place within the flow, and the reason."""

    line: int
    place: str
    reason: str


class FlowSummary(Struct, frozen=True, kw_only=True):
    """What lists show of a flow, and what a session needs; `requires` are variables, as metadata.order."""

    flow_id: str
    name: str
    description: str
    language: str
    greeting: str = ""
    requires: list[str] = []


class FlowCheckRequest(Struct, frozen=True, kw_only=True):
    """A source to check; `name` stands for the file in its problems."""

    source: str
    name: str = "flow"


class FlowCheckReply(Struct, frozen=True, kw_only=True):
    """The problems of a source, or its summary. `more` counts the problems that are not listed."""

    problems: list[FlowProblem] = []
    more: int = 0
    summary: FlowSummary | None = None


class FlowRevision(Struct, frozen=True, kw_only=True):
    """The value of a key of the buckets `flows` and `flow_drafts`; the revision of a draft is 0.

    `origin` tells whether it was published from a folder of files or over HTTP.
    """

    flow_id: str
    revision: int
    name: str
    description: str
    language: str
    source: str
    sha256: str
    created_at: datetime
    greeting: str = ""
    requires: list[str] = []
    origin: Literal["files", "http"] = "files"


def is_flow_id(text: str) -> bool:
    """Return whether a text can be the id of a flow."""
    return _flow_id.fullmatch(text) is not None


def revision_key(tenant: str, flow_id: str, revision: int) -> str:
    """Return the key of a revision in the bucket `flows`."""
    return f"{tenant}.{flow_id}.{revision}"


def draft_key(tenant: str, flow_id: str, sha256: str) -> str:
    """Return the key of a draft in the bucket `flow_drafts`."""
    return f"{tenant}.{flow_id}.{sha256}"


_request = msgspec.json.Decoder(FlowCheckRequest)
_reply = msgspec.json.Decoder(FlowCheckReply)
_revision = msgspec.json.Decoder(FlowRevision)


def decode_check_request(payload: bytes) -> FlowCheckRequest:
    """Decode a request on FLOW_CHECK. Raises InvalidRecord."""
    return _decoded(_request, payload)


def decode_check_reply(payload: bytes) -> FlowCheckReply:
    """Decode the answer to such a request. Raises InvalidRecord."""
    return _decoded(_reply, payload)


def decode_revision(value: bytes) -> FlowRevision:
    """Decode a stored revision or draft. Raises InvalidRecord."""
    return _decoded(_revision, value)


def _decoded(decoder: "msgspec.json.Decoder[T]", raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRecord(str(error)) from error
