"""What the API answers with; unknown fields of a newer server are ignored."""

from datetime import date, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from antiphon.contracts import session as contracts


class Session(contracts.Session, frozen=True, kw_only=True):
    """A session; see `antiphon.contracts.session`. A status that this version does not know is kept."""

    status: str = contracts.Status.PENDING  # type: ignore[assignment]  # text: a newer server may have more


class Turn(Struct, frozen=True, kw_only=True):
    """A turn of the conversation; `state` is `open`, `saved` or `unfinished`.

    `assistant_text` is what the caller heard, `assistant_text_generated` all that the agent meant to say.
    """

    session_id: str
    turn: int
    state: str
    epoch: str = ""
    agent_id: str | None = None
    interrupted: bool = False
    recovered: bool = False
    user_text: str | None = None
    assistant_text: str | None = None
    assistant_text_generated: str | None = None
    language: str | None = None
    confidence: float | None = None
    started_at: datetime | None = None
    occurred_at: datetime | None = None
    sequence: int | None = None
    first_sequence: int | None = None
    tool_call_ids: list[str] = []
    metrics: dict[str, Any] = {}


class Latency(Struct, frozen=True, kw_only=True):
    """Quantiles of `count` durations in milliseconds, within 1 %; None when there are none."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None


class DailyFigures(Struct, frozen=True, kw_only=True):
    """The sessions that began on a day (UTC) with a flow; `flow_id` is None for those without one.

    `outcomes` counts the ends by reason, `faults` those of closed sessions by the side that caused them.
    `response_ms` is from the end of the user's words to the agent's first, `ready_ms` until an agent
    was ready.
    """

    day: date
    flow_id: str | None = None
    calls: int = 0
    ended: int = 0
    failed: int = 0
    minutes: float = 0.0
    turns: int = 0
    interruptions: int = 0
    outcomes: dict[str, int] = {}
    faults: dict[str, int] = {}
    response_ms: Latency = Latency()
    ready_ms: Latency = Latency()


class UsageFigures(Struct, frozen=True, kw_only=True):
    """What one model was used for by the sessions that began on a day (UTC)."""

    day: date
    kind: str
    provider: str
    model: str
    sessions: int = 0
    input_tokens: int = 0
    input_cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_tokens: int = 0
    output_audio_tokens: int = 0
    characters: int = 0
    requests: int = 0
    audio_seconds: float = 0.0


class TimelineItem(Struct, frozen=True, kw_only=True):
    """One thing that happened in a session; `ended_at` is None while it goes on.

    Lanes are `session`, `participant`, `caller`, `agent`, `tool`, `media` and `error`.
    """

    lane: str
    started_at: datetime
    title: str
    ended_at: datetime | None = None
    detail: str | None = None
    session_id: str | None = None
    sequence: int | None = None
    part: int | None = None


class _Secretive(Struct, frozen=True):
    # one that shows that it has a secret, not which

    def __repr__(self) -> str:
        shown = (
            f"{name}={'…' if value and name in ('token', 'secret') else repr(value)[:200]}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class CreatedSession(_Secretive, frozen=True, kw_only=True):
    """A session that was created, and what its caller needs to join it.

    `replayed` says that an earlier request with the same idempotency key had created it. `token` is None if
    it has ended since.
    """

    session_id: str
    status: str
    room: str
    livekit_url: str
    events_url: str
    token: str | None = None
    greeting: str | None = None
    replayed: bool = False


class JoinToken(_Secretive, frozen=True, kw_only=True):
    """A LiveKit token for one participant, to be used within `expires_in_seconds`."""

    session_id: str
    room: str
    livekit_url: str
    identity: str
    token: str
    expires_in_seconds: int


class Ending(Struct, frozen=True, kw_only=True):
    """The end of a session: `ended` is False while its agent still has to publish the last events."""

    session_id: str
    ended: bool


class Flow(Struct, frozen=True, kw_only=True):
    """A revision of a flow; `requires` are the variables that a session needs, as `metadata.order`."""

    flow_id: str
    revision: int
    sha256: str | None = None
    name: str | None = None
    description: str | None = None
    language: str | None = None
    created_at: datetime | None = None
    greeting: str | None = None
    requires: list[str] = []


class FlowSource(Flow, frozen=True, kw_only=True):
    """A revision of a flow with its text."""

    source: str


class FlowDifference(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The difference between two revisions; `diff` is a unified text, empty when they are the same."""

    flow_id: str
    from_: int
    to: int
    diff: str


Wait = Literal["ready"]


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key without its secret; `prefix` is the start of the secret.

    `status` is `active`, `expired` or `revoked`. `rotated_from` and `replaced_by` are ids of keys.
    """

    id: str
    name: str
    tenant: str | None = None
    scopes: list[str] = []
    status: str | None = None
    prefix: str | None = None
    operator: bool = False
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    rotated_from: str | None = None
    replaced_by: str | None = None
    limits: dict[str, int | None] | None = None


class CreatedKey(ApiKey, _Secretive, frozen=True, kw_only=True):
    """A new API key; its `secret` is shown once."""

    secret: str


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An act on keys, flows or what is stored: who did it, from where, and what came of it.

    `outcome` is `done`, `refused` or `unknown`. `tenant` is None for an act on the whole deployment.
    """

    id: str
    at: datetime
    tenant: str | None = None
    kind: str
    actor: str
    target: str
    details: dict[str, str] = {}
    address: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    outcome: str
    outcome_at: datetime | None = None
    reason: str | None = None
