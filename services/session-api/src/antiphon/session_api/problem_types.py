"""The catalogue of problem types: every `type` that session-api and webhook-ingest respond with."""

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

from antiphon.session_api.problems import TYPE_BASE


class ProblemType(Struct, frozen=True):
    """One type of problem: its last part of `type`, its statuses, what happened and what to do."""

    name: str
    statuses: tuple[int, ...]
    happened: str
    advice: str

    @property
    def title(self) -> str:
        """The title, as in the documents of this type."""
        return self.name.replace("-", " ").capitalize()

    @property
    def uri(self) -> str:
        """The `type` of its documents."""
        return TYPE_BASE + self.name


class FieldError(Struct, frozen=True, rename={"in_": "in"}):
    """One field, parameter or header that is not valid; `field` is a path with dots, `code` is stable."""

    field: str
    in_: str
    message: str
    code: str | UnsetType = UNSET


class ProblemDocument(Struct, frozen=True):
    """An error (RFC 9457). Match on the last part of `type`; some types have more members.

    `request_id` is also in the log of the service; `instance` is the path, if the request could be read.
    `errors` is there when the request is not valid.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    instance: str | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET


_ALL = (
    ProblemType(
        "malformed-json",
        (400,),
        "The body is not JSON in UTF-8; `at_character` is the offset of the error.",
        "Send valid JSON. NaN, Infinity and lone surrogates are not part of it.",
    ),
    ProblemType(
        "malformed-request",
        (400,),
        "The bytes are not an HTTP/1.1 request.",
        "Send HTTP/1.1 to this port, without TLS if the service has no TLS.",
    ),
    ProblemType(
        "bad-request",
        (400,),
        "The request is not valid HTTP, or its body could not be read.",
        "Correct the request; `detail` says what is wrong.",
    ),
    ProblemType(
        "client-disconnected",
        (400,),
        "The connection closed before the body was complete.",
        "Send the request again.",
    ),
    ProblemType(
        "malformed-webhook",
        (400,),
        "The body of the webhook is not an event of LiveKit.",
        "Let only LiveKit send to this address.",
    ),
    ProblemType(
        "missing-credentials",
        (401,),
        "The request has no API key.",
        "Send the header `Authorization: Bearer <key>`.",
    ),
    ProblemType(
        "invalid-credentials",
        (401,),
        "The API key is not known, or was revoked.",
        "Use a key that is valid; ask your operator for one.",
    ),
    ProblemType(
        "expired-credentials",
        (401,),
        "The API key has expired.",
        "Create a key, or use the one that replaced it when it was rotated.",
    ),
    ProblemType(
        "bad-signature",
        (401,),
        "The signature of the webhook does not fit its body, or the API secret.",
        "Give LiveKit and webhook-ingest the same API key and secret.",
    ),
    ProblemType(
        "missing-scope",
        (403,),
        "The API key lacks the scope in `scope`.",
        "Use a key with this scope: `sessions:read` to read, `sessions:write` to create, join and end, "
        "`supervise` to watch, "
        "`flows:read` for the sources of flows, `flows:write` to publish and try them.",
    ),
    ProblemType(
        "foreign-tenant",
        (403,),
        "The API key manages the keys of its own tenant only.",
        "Leave `tenant` out, or use the key of an operator.",
    ),
    ProblemType(
        "operator-key",
        (403,),
        "Only an operator's key may rotate or revoke the key of an operator.",
        "Use the key of an operator.",
    ),
    ProblemType(
        "not-found",
        (404,),
        "There is nothing at this path.",
        "Compare the path with the HTTP API's reference.",
    ),
    ProblemType(
        "unknown-session",
        (404,),
        "Your tenant has no session with this id.",
        "Check the id, and that the API key belongs to the tenant that created the session.",
    ),
    ProblemType(
        "unknown-flow",
        (404,),
        "Your tenant has no flow with this id.",
        "List the flows with `GET /v1/flows`, and publish one with `PUT /v1/flows/{id}`.",
    ),
    ProblemType(
        "unknown-key",
        (404,),
        "Your tenant has no API key with this id.",
        "List the keys with `GET /v1/keys`.",
    ),
    ProblemType(
        "unknown-problem",
        (404,),
        "There is no problem type of this name.",
        "`GET /problems` lists all types.",
    ),
    ProblemType(
        "method-not-allowed",
        (405,),
        "The path does not take this method; the header `Allow` names those that it takes.",
        "To end a session, use `POST /v1/sessions/{id}/end`.",
    ),
    ProblemType(
        "request-timeout",
        (408,),
        "The request did not arrive in time.",
        "Send the request again, without pauses: the headers have 10 s, the body has 20 s.",
    ),
    ProblemType(
        "session-ended",
        (409,),
        "The session has ended, so nobody can join it.",
        "Create a new session.",
    ),
    ProblemType(
        "room-ended",
        (409,),
        "The room of this adopted session is gone; a later room may have its name.",
        "Look for the later session with `GET /v1/sessions?room=<name>`.",
    ),
    ProblemType(
        "idempotency-key-expired",
        (409,),
        "This Idempotency-Key was used for a session that is older than the log's retention.",
        "Use a new key for a new session.",
    ),
    ProblemType(
        "key-conflict",
        (409,),
        "The API key has ended, has been replaced, or is being changed by others; `detail` says which.",
        "Rotate the key that replaced it, or create a new one.",
    ),
    ProblemType(
        "last-admin-key",
        (409,),
        "This is the tenant's last key with the scope `admin`.",
        'Create another one first, or send `{"force": true}`.',
    ),
    ProblemType(
        "history-erased",
        (410,),
        "The events of the session were erased, at `erased_at`: no past state can be computed.",
        "Leave `at` and `at_time` out: the session is shown as far as it is kept.",
    ),
    ProblemType(
        "flow-changed",
        (412,),
        "The flow is not the one that `If-Match` or `If-None-Match` names; `newest_revision` is its newest.",
        "Read the flow, repeat your change on it, and send its `ETag` as `If-Match`.",
    ),
    ProblemType(
        "content-too-large",
        (413,),
        "The body, or the event that it would become, is too large.",
        "Send less; metadata may have 16 KiB as JSON, a flow 512 KiB, any other body 64 KiB.",
    ),
    ProblemType(
        "unsupported-media-type",
        (415,),
        "The body is not `application/json`; a flow may be `application/yaml` too.",
        "Send JSON with `Content-Type: application/json`, or a flow with `Content-Type: application/yaml`.",
    ),
    ProblemType(
        "invalid-request",
        (422,),
        "A field, parameter or header is not valid; `errors` names each.",
        "Correct what `errors` names. Unknown fields and parameters are not ignored.",
    ),
    ProblemType(
        "invalid-flow",
        (422,),
        "The flow has errors: `problems` names the line, the place and the reason of each; `more_problems` "
        "counts those that are not listed.",
        "Correct them; `antiphon flow check FILE` finds the same on your machine.",
    ),
    ProblemType(
        "invalid-cursor",
        (422,),
        "`after`, `until` or `Last-Event-ID` is no cursor, or one that does not belong to this log.",
        "Pass the `next` of a page or the `id` of a stream as it is; else start without it, or with `since`.",
    ),
    ProblemType(
        "sequence-beyond-end",
        (422,),
        "`after` or `Last-Event-ID` is beyond the last event that is committed; `last_sequence` is that one.",
        "Resume after an event that you received from this session. One that you received is committed.",
    ),
    ProblemType(
        "outside-history",
        (422,),
        "The session had no such state: `at` is not one of `first_sequence` to `last_sequence`, or `at_time` "
        "is before `first_time`.",
        "Pass a sequence or a time of the range; the last state is the session without `at`.",
    ),
    ProblemType(
        "idempotency-key-reused",
        (422,),
        "This Idempotency-Key was used before, with another request; `errors` names the fields that differ.",
        "Use a new key for a new session, and the same body for a retry.",
    ),
    ProblemType(
        "sequence-beyond-end",
        (422,),
        "The session has no event with the number in `after` yet; `last_sequence` is its last.",
        "Resume after the last event that you received.",
    ),
    ProblemType(
        "rate-limited",
        (429,),
        "The key, tenant or address sends more requests than it may; `limit` of them in `window_seconds`.",
        "Retry after `Retry-After` seconds; the header `RateLimit` shows what is left before that happens.",
    ),
    ProblemType(
        "quota-exceeded",
        (429,),
        "The key or tenant has as many as it may have at once; `quota` names what, `limit` is how many.",
        "End or close one, or ask your operator for more.",
    ),
    ProblemType(
        "headers-too-large",
        (431,),
        "The request line and headers are larger than 64 KiB, or more than 128 fields.",
        "Send fewer and shorter headers.",
    ),
    ProblemType(
        "internal-error",
        (500, 503),
        "A fault of the service; its log has the reason.",
        "Try again later, and report it with the time of the request.",
    ),
    ProblemType(
        "livekit-refused",
        (502,),
        "LiveKit refused the request.",
        "Retrying does not help: an operator must check LiveKit's credentials and log.",
    ),
    ProblemType(
        "broker-unavailable",
        (503,),
        "NATS is unavailable; nothing was created.",
        "Retry after `Retry-After` seconds; with an Idempotency-Key a retry of a create is safe.",
    ),
    ProblemType(
        "flow-check-unavailable",
        (503,),
        "No agent worker has checked the flow in time; nothing was published.",
        "Retry after `Retry-After` seconds. Operators: see that an agent worker runs and is ready.",
    ),
    ProblemType(
        "database-unavailable",
        (503,),
        "Postgres is unavailable; sessions can still be created, joined and ended.",
        "Retry after `Retry-After` seconds.",
    ),
    ProblemType(
        "view-not-built",
        (503,),
        "The view that this route reads, `view`, is not built yet.",
        "Retry after `Retry-After` seconds. Operators: `persistence status` shows how far each view is.",
    ),
    ProblemType(
        "deadline-exceeded",
        (503,),
        "The broker, LiveKit or Postgres did not answer in time; the request may still take effect.",
        "Retry after `Retry-After` seconds; with an Idempotency-Key a retry of a create is safe.",
    ),
    ProblemType(
        "server-busy",
        (503,),
        "The bodies of all requests together are too large at the moment.",
        "Retry after `Retry-After` seconds.",
    ),
    ProblemType(
        "too-many-connections",
        (503,),
        "The service has its maximum of connections; health checks are still answered.",
        "Reuse connections and close streams that are not read; operators can raise the limit.",
    ),
    ProblemType(
        "livekit-unavailable",
        (503,),
        "LiveKit does not answer.",
        "Retry after `Retry-After` seconds; with an Idempotency-Key a retry of a create is safe.",
    ),
    ProblemType(
        "view-not-built",
        (503,),
        "The view that this route reads, `view`, is not built yet.",
        "Retry after `Retry-After` seconds. Operators: `persistence status` shows how far each view is.",
    ),
    ProblemType(
        "deadline-exceeded",
        (503,),
        "A required server is slow or away; the request may still take effect.",
        "Retry after `Retry-After` seconds; with an Idempotency-Key a retry of a create is safe.",
    ),
    ProblemType(
        "server-busy",
        (503,),
        "Too many large requests at once.",
        "Retry after `Retry-After` seconds.",
    ),
    ProblemType(
        "too-many-connections",
        (503,),
        "The server has all the connections that it may have.",
        "Close connections that are not used, and retry after `Retry-After` seconds.",
    ),
    ProblemType(
        "room-not-yet-adopted",
        (503,),
        "The webhook is about a room whose session is not on record yet.",
        "Nothing: LiveKit sends it again.",
    ),
)
PROBLEMS = {problem.name: problem for problem in _ALL}


def by_status(names: Iterable[str]) -> dict[int, list[ProblemType]]:
    """Return these problem types by status.

    Raises KeyError for a name that is not in the catalogue.
    """
    grouped: dict[int, list[ProblemType]] = {}
    for problem in (PROBLEMS[name] for name in names):
        grouped.setdefault(problem.statuses[0], []).append(problem)
    return dict(sorted(grouped.items()))
