"""uvicorn's HTTP/1.1 connection with limits: size and time of requests, pipelining, slow readers."""
# ruff: noqa: D102 - the callbacks of asyncio and httptools

import asyncio
from typing import Any

import httptools
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from antiphon.chassis.http.limits import server_busy, too_many_connections
from antiphon.chassis.http.load import Pool, ServerLoad, Standing
from antiphon.chassis.http.problem import MEDIA_TYPE, Problem, encode_problem, problem_response
from antiphon.chassis.http.request_id import new_request_id

ABORT_SECONDS = 2.0  # for a refused client to take its answer
HEALTH = "/health/"

IDLE, HEAD, BODY = range(3)  # between requests; within the head, the body of one

log = structlog.get_logger(__name__)


class _PipelineFull(Exception):
    """More requests wait on one connection than the limit."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection; what breaks a limit gets a problem, if nothing is being sent, and is closed."""

    def __init__(
        self,
        load: ServerLoad,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._load = load
        self._limits = load.limits
        self._phase = HEAD  # a new connection owes a request
        self._requests = 0
        self._loose_bytes = 0  # received since the start of the head or the last byte of the body
        self._field_bytes = 0
        self._hosts = 0  # fields of that name
        self._discarded_bytes = 0
        self._ended = False
        self._active: RequestResponseCycle | None = None
        self._timed: tuple[int, int] | None = None  # the request and its phase that the timer is for
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_seconds = load.limits.head_seconds
        # for the server's load
        self.address = ""
        self.pool: Pool | None = None
        self.standing = Standing.OWING
        self.since = 0.0
        self.held_bytes = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._load.admit(self):
            self._ended = True
            transport.abort()
            return
        if self._load.for_health_only(self):
            self.app = _only_health(self.app, self._limits.connections)
        self._watch_time()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall_timer = None
        self._ended = True
        self._load.forget(self)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._active is not None:  # not always the newest, which is all that uvicorn tells
            self._active.disconnected = True
            self._active.message_event.set()
            self._active = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active = cycle
        if self._load.draining:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._loose_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._on_callback_error(error.__context__)
        except httptools.HttpParserUpgrade:
            pass  # answered over HTTP/1.1, as if it had not been asked for
        except httptools.HttpParserError as error:
            self._refuse(Problem(400, "malformed-request", f"Not an HTTP/1.1 request: {error}."))
        else:
            if self._phase != IDLE and self._loose_bytes > self._limits.head_bytes:
                self._refuse(self._head_too_large())
        self._watch_time()
        self._settle()

    def close_after_response(self) -> None:
        """Let the responses under way be the last; one that waits for a request stays for its next."""
        for cycle in (self.cycle, self._active):
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False

    def _settle(self) -> None:
        """Tell the server's load what this connection does now."""
        if self._ended:
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            standing = Standing.IDLE if self._phase == IDLE else Standing.OWING
        else:
            standing = Standing.UNFINISHED if self.body_unfinished else Standing.BUSY
        if standing is not self.standing:
            self._load.settle(self, standing)

    @property
    def body_unfinished(self) -> bool:
        """Whether the app waits for the rest of a body, and has not begun to answer."""
        return self._phase == BODY and not self._ended and not self.cycle.response_started

    @property
    def body_owner(self) -> bytes | str:
        """Whose body comes: the credentials of the request, or the address."""
        for name, value in self.headers:
            if name == b"authorization" and (parts := value.split()):
                return parts[-1]
        return self.address

    def _on_callback_error(self, error: BaseException | None) -> None:
        if isinstance(error, Problem):
            self._refuse(error)
        elif isinstance(error, _PipelineFull):
            self._end_after_responses()
        else:
            self._refuse(Problem(400, "malformed-request", "The request's target is not valid."))

    # The parser's events

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = HEAD
        self._requests += 1
        self._field_bytes = self._discarded_bytes = self._hosts = 0

    def on_url(self, url: bytes) -> None:
        self._field_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise Problem(400, "malformed-request", "The only Transfer-Encoding is chunked.")
        self._field_bytes += len(name) + len(value) + 4
        self.headers.append((name, value))
        if self._field_bytes > self._limits.head_bytes or len(self.headers) > self._limits.head_fields:
            raise self._head_too_large()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self._limits.pipelined:
            raise _PipelineFull
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            raise Problem(400, "malformed-request", "A request has one Host header.")
        super().on_headers_complete()
        self._phase = BODY
        self._loose_bytes = 0

    def on_body(self, body: bytes) -> None:
        # each chunk of a body may add a few bytes around its own
        self._loose_bytes = max(self._loose_bytes - 9 * len(body), 0)
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > self._limits.discarded_bytes:
                raise Problem(413, "content-too-large", "The request was answered already.")
            return
        self._load.hold(self, len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = IDLE
        self._loose_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._load.release(self)
        self._settle()
        if self._stall_timer is None and self.transport.get_write_buffer_size():
            self._watch_reader()

    # Refusals

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "malformed-request", msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: any client can ask for an upgrade."""

    def _head_too_large(self) -> Problem:
        if self._phase == BODY:
            return Problem(400, "malformed-request", "The body's chunks or trailers are too large.")
        kib = self._limits.head_bytes // 1024
        detail = f"The request's headers are limited to {kib} KiB and {self._limits.head_fields} fields."
        return Problem(431, "headers-too-large", detail)

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem if the answer is still due, and close the connection."""
        cycle = self.cycle
        if self._phase != BODY and cycle is not None and not cycle.response_complete:
            self._end_after_responses()
            return
        self._ended = True
        answered = self._phase == BODY and (cycle.response_started or self.pipeline)
        log.info("http.refused", status=problem.status_code, kind=problem.kind, answered=bool(answered))
        if not answered:
            self.transport.write(_raw_response(problem))
        if self._phase == BODY and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            self._load.release(self)
        self._close()

    def end_body(self) -> None:
        """Answer 503 instead of waiting for the rest of the body."""
        self._refuse(server_busy())

    def make_room(self) -> None:
        """Close the connection at once."""
        self._ended = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.response_started:
                self.transport.write(_raw_response(too_many_connections(self._limits.connections)))
            cycle.disconnected = True
            cycle.message_event.set()
            self._close()
            self.transport.close()
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _end_after_responses(self) -> None:
        self._ended = True
        self.cycle.keep_alive = False  # the newest: the connection closes after its response

    def _close(self) -> None:
        self._load.settle(self, Standing.OWING)
        # Not `close` yet: with bytes unread, it would reset the connection, and the client lose its answer.
        if not self.transport.is_closing():
            self.transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(ABORT_SECONDS, self.transport.abort)

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self._limits.discarded_bytes:
            self.transport.abort()

    # Time

    def _watch_time(self) -> None:
        if self._ended:
            return
        wanted = None if self._phase == IDLE else (self._requests, self._phase)
        if wanted == self._timed and (wanted is None or self._timer is not None):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = wanted
        if wanted is not None:
            seconds = self._limits.body_seconds
            if self._phase == HEAD:
                seconds = self._head_seconds = self._load.head_seconds()
            self._timer = self.loop.call_later(seconds, self._on_late)

    def _on_late(self) -> None:
        self._timer = None
        if self._ended:
            return
        if self._requests == 0 and not self._loose_bytes:
            self._ended = True  # it never sent anything
            self._close()
            return
        part, seconds = ("headers", self._head_seconds)
        if self._phase == BODY:
            part, seconds = "body", self._limits.body_seconds
        self._refuse(Problem(408, "request-timeout", f"The request's {part} took longer than {seconds:g} s."))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _watch_reader(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        waiting = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(self._limits.stalled_seconds, self._on_slow, waiting)

    def _on_slow(self, waiting: int) -> None:
        self._stall_timer = None
        remaining = self.transport.get_write_buffer_size()
        if remaining >= waiting > 0:
            log.info("http.stalled_reader", unread_bytes=remaining)
            self.transport.abort()
        elif remaining:
            self._watch_reader()


def _only_health(app: ASGIApp, limit: int) -> ASGIApp:
    """Return an app for connections over the limit: health checks work, all else is a 503."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(HEALTH):
            await app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = new_request_id()
        response = problem_response(Request(scope), too_many_connections(limit))
        response.headers["X-Request-Id"] = scope["state"]["request_id"]
        await response(scope, receive, send)

    return answer


def _raw_response(problem: Problem) -> bytes:
    """Return a whole response, for a request that no app has seen."""
    request_id = new_request_id()
    body = encode_problem(problem, instance=None, request_id=request_id)
    fields = {
        **(problem.headers or {}),
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "X-Request-Id": request_id,
        "Connection": "close",
    }
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in fields.items())
    return STATUS_LINE[problem.status_code] + lines.encode("latin-1") + b"\r\n" + body
