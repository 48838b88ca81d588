"""Requests and answers as data: a call says what to send, whether it may be repeated, and how to read it."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, ParamSpec, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from antiphon.client.errors import ApiError, InvalidArgument, Timeout, UnreadableResponse, api_error

MAX_BODY_BYTES = 128 << 20
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0

P = ParamSpec("P")
T = TypeVar("T")
Params = Sequence[tuple[str, str]]

_any = msgspec.json.Decoder()
_idempotency_key = re.compile(r"[!-~]{1,255}")


class Reply(Struct, frozen=True):
    """An answer, read to its end; the names of headers are in lower case, `via` names a proxy."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    via: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    def retry_after(self, now: datetime | None = None) -> float | None:
        """Return the seconds of `Retry-After`, whether it gives seconds or a date."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
        return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

    def error(self) -> ApiError:
        """Return the error of an answer that is not a success."""
        if 300 <= self.status < 400:
            document = {
                "title": "Redirected",
                "detail": "redirects are not followed, since the API key would go to another host: "
                "pass the address that session-api itself has as base_url",
            }
            return api_error(self.status, msgspec.json.encode(document))
        return api_error(
            self.status,
            self.body,
            request_id=self.headers.get("x-request-id"),
            retry_after=self.retry_after(),
            via=self.via,
        )


class Call(Struct, Generic[T], frozen=True, kw_only=True):
    """One operation of the API.

    `body` is sent as JSON; `raw` is a media type and a body that is sent as it is.
    `repeatable` says that sending it twice has the effect of once. `timeout_seconds` is for all attempts
    together, `attempt_seconds` for one; None means the client's.
    """

    method: str
    path: str
    parse: Callable[[Reply], T]
    params: Params = ()
    headers: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    raw: tuple[str, bytes] | None = None
    repeatable: bool = True
    timeout_seconds: float | None = None
    attempt_seconds: float | None = None

    @property
    def media_type(self) -> str:
        """The media type of the body."""
        return "application/json" if self.raw is None else self.raw[0]

    @property
    def content(self) -> bytes | None:
        """The body as bytes, or None.

        Raises InvalidArgument.
        """
        if self.raw is not None:
            return self.raw[1]
        try:
            return None if self.body is None else msgspec.json.encode(self.body)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidArgument(f"the body cannot be sent as JSON: {error}") from error


def any_call(
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    *,
    params: Mapping[str, Any] | None,
    idempotency_key: str | None,
    timeout: float | None,
    headers: Mapping[str, str] | None = None,
    raw: tuple[str, bytes] | None = None,
) -> Call[Any]:
    """Return the call of an operation that has no function.

    Raises InvalidArgument for a path that is none: what follows the host must not change it.
    """
    if not path.startswith("/"):
        raise InvalidArgument(f"the path {path[:100]!r} does not begin with /")
    return Call(
        method=method,
        path=_text("the path", path),
        params=as_params(given(**(params or {}))),
        headers={**(headers or {}), **({} if idempotency_key is None else idempotent(idempotency_key))},
        body=body,
        raw=raw,
        parse=lambda reply: decoded(_any, reply.body) if reply.body else None,
        repeatable=idempotency_key is not None or method in ("GET", "HEAD"),
        timeout_seconds=timeout,
    )


class Body:
    """The body of an answer while it arrives, bounded in bytes and in time."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        self._now = now
        self._until = now() + seconds
        self._chunks: list[bytes] = []
        self._bytes = 0

    def add(self, chunk: bytes) -> None:
        """Add a chunk.

        Raises UnreadableResponse when the body is too long, Timeout when it takes too long.
        """
        self._bytes += len(chunk)
        if self._bytes > MAX_BODY_BYTES:
            raise UnreadableResponse(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        if self._now() > self._until:
            raise Timeout("the answer did not arrive completely in time")
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Return all that arrived."""
        return b"".join(self._chunks)


def path_part(text: str) -> str:
    """Return text as one part of a path: an id that someone else chose cannot name another path.

    Raises InvalidArgument.
    """
    if text in ("", ".", ".."):
        raise InvalidArgument(f"{text!r} is not an id")
    return quote(_text("an id", text), safe="")


def idempotent(key: str) -> dict[str, str]:
    """Return the header of an idempotency key.

    Raises InvalidArgument for one that a header cannot hold, or session-api does not take.
    """
    if _idempotency_key.fullmatch(key) is None:
        raise InvalidArgument("idempotency_key takes 1 to 255 characters of ASCII, without spaces")
    return {"Idempotency-Key": key}


def _text(what: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} is not Unicode: {text[:100]!a}") from error
    return text


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def as_params(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return query parameters; a list is repeated, a time is in RFC 3339."""
    params = []
    for name, value in values.items():
        many = value if isinstance(value, list | tuple) else [value]
        params += [(name, _as_text(name, one)) for one in many]
    return params


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidArgument(f"{name} needs a time zone, as datetime.now(UTC) has")
        return value.isoformat()
    return _text(name, str(value))


def reading(kind: type[T]) -> Callable[[Reply], T]:
    """Return a function that reads an answer as JSON of this type; unknown fields are ignored."""
    decoder = msgspec.json.Decoder(kind)

    def parse(reply: Reply) -> T:
        return decoded(decoder, reply.body)

    return parse


def decoded(decoder: "msgspec.json.Decoder[T]", raw: bytes | Raw) -> T:
    """Decode JSON.

    Raises UnreadableResponse.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableResponse(
            f"the answer is not one of session-api ({error}): is base_url its address?"
        ) from error


def documented(method: Callable[P, T], build: Callable[..., Any]) -> Callable[P, T]:
    """Return a method with the name, the text and the parameters of the function that builds its call."""
    signature = inspect.signature(build)
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__ = build.__name__
    method.__doc__ = build.__doc__
    shown = signature.replace(parameters=[self_parameter, *signature.parameters.values()])
    method.__signature__ = shown.replace(return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]
    return method
