"""One request and its response: the body's limit, the deadline, and the headers of every response."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from antiphon.chassis.http.cors import Cors
from antiphon.chassis.http.deadline import Deadline
from antiphon.chassis.http.problem import Problem
from antiphon.chassis.http.representation import (
    MIN_GZIP_BYTES,
    RawHeaders,
    accepts_gzip,
    compressed,
    etag_of,
    matches,
    without_body,
)
from antiphon.chassis.http.request_id import HEADER, request_id_of
from antiphon.chassis.http.routing import allowed_methods

_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_JSON = (b"application/json", b"application/problem+json")
_SECURITY: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """What one service asks of every request and adds to every response; times in seconds."""

    body_limit_bytes: int
    deadline_seconds: float = 8.0  # until the response starts, after the body has come
    retry_after_seconds: int = 2  # of a client whose request took longer
    body_seconds: float = 20.0  # for the body, as the server limits it
    cors: Cors = field(default_factory=Cors)
    hsts_seconds: int = 0  # none
    api_prefix: str = "/v1/"  # of the paths whose responses are private, and have ETags

    def fixed_headers(self) -> RawHeaders:
        """Return the headers that every response has."""
        if not self.hsts_seconds:
            return _SECURITY
        return [*_SECURITY, (b"strict-transport-security", b"max-age=%d" % self.hsts_seconds)]


@dataclass(frozen=True, slots=True)
class Service:
    """What the exchanges of one service share."""

    policy: HttpPolicy
    routes: Sequence[BaseRoute]
    fixed_headers: RawHeaders
    new_id: Callable[[], str]


class Exchange:
    """The request as the app sees it, and its response as the client gets it."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = request_id_of(self.headers.get(HEADER), service.new_id)
        self.is_head = scope["method"] == "HEAD"
        self.is_read = self.is_head or scope["method"] == "GET"
        # A HEAD is a GET whose body is not sent.
        self.scope = {**scope, "method": "GET"} if self.is_head else scope
        self.status = 0
        self.stream_started_at = 0.0  # by time.perf_counter; of a response that may go on without end
        self.deadline: Deadline | None = None  # while it may end the request
        self._service = service
        self._policy = service.policy
        self.body_limit_bytes = service.policy.body_limit_bytes
        self._receive = receive
        self._send = send
        declared = self.headers.get(b"content-length", b"0")
        self._declared = int(declared) if declared.isdigit() else 0
        self._received = 0
        self._held: Message | None = None
        self._complete = False

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""
        return self._declared > 0 or b"transfer-encoding" in self.headers

    def start_deadline(self, extra_seconds: float = 0.0) -> None:
        """Let the time for the response begin now, with `extra_seconds` more."""
        if self.deadline is not None:
            self.deadline.move(self._policy.deadline_seconds + extra_seconds)

    # The request

    async def receive(self) -> Message:
        """Return the next message of the request.

        Raises Problem 413 for a body over the limit.
        """
        if self.is_head and self.status:
            return {"type": "http.disconnect"}  # ends a stream, whose body would be dropped anyway
        if self._declared > self.body_limit_bytes:
            raise self._too_large()
        message = await self._receive()
        if message["type"] == "http.request" and self.has_body:
            self._received += len(message.get("body", b""))
            if self._received > self.body_limit_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                self.start_deadline()
        return message

    def _too_large(self) -> Problem:
        kib = self.body_limit_bytes // 1024
        return Problem(413, "content-too-large", f"Request bodies are limited to {kib} KiB.")

    # The response

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the headers of every response."""
        if message["type"] == "http.response.start":
            await self._start(message)
            return
        if self._complete:
            return
        if self._held is not None:
            held, self._held = self._held, None
            if not message.get("more_body"):
                held, message = await self._represented(held, message)
            await self._send(held)
        if self.is_head:
            message = {**message, "body": b"", "more_body": False}
        self._complete = not message.get("more_body")
        await self._send(message)

    async def _start(self, message: Message) -> None:
        self.status = message["status"]
        if self.deadline is not None:
            self.deadline.lift()
            self.deadline = None
        headers: RawHeaders = [*message.get("headers", ()), *self._service.fixed_headers]
        names = dict(headers)
        if names.get(b"content-type", b"").startswith(_STREAMS):
            self.stream_started_at = time.perf_counter()
        headers.append((HEADER, self.request_id.encode()))
        if self._policy.cors.origins:
            headers += self._policy.cors.headers(self.headers.get(b"origin"))
        if b"cache-control" not in names and self.scope["path"].startswith(self._policy.api_prefix):
            reusable = self.is_read and self.status < 400
            headers.append((b"cache-control", b"private, no-cache" if reusable else b"no-store"))
        if self.status == 405:
            allowed = allowed_methods(self._service.routes, self.scope)
            headers = [pair for pair in headers if pair[0] != b"allow"]
            headers.append((b"allow", ", ".join(allowed).encode()))
        message = {**message, "headers": headers}
        # Its body decides about the headers of JSON.
        if names.get(b"content-type", b"").startswith(_JSON) and b"content-encoding" not in names:
            self._held = message
        else:
            await self._send(message)

    async def _represented(self, start: Message, message: Message) -> tuple[Message, Message]:
        headers: RawHeaders = start["headers"]
        body: bytes = message.get("body", b"")
        validated = any(name == b"etag" for name, _ in headers)  # by the app, which knows it without the body
        reusable = (b"cache-control", b"private, no-cache") in headers
        if self.is_read and self.status == 200 and reusable and not validated:
            etag = etag_of(body)
            headers.append((b"etag", etag))
            known = self.headers.get(b"if-none-match")
            if known is not None and matches(known, etag):
                self.status = 304
                kept = without_body(headers)
                return {**start, "status": 304, "headers": kept}, {**message, "body": b""}
        if len(body) >= MIN_GZIP_BYTES:
            headers.append((b"vary", b"Accept-Encoding"))
            if accepts_gzip(self.headers.get(b"accept-encoding", b"")):
                headers, body = await compressed(headers, body)
        return {**start, "headers": headers}, {**message, "body": body}
