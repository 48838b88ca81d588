"""The connection to NATS: it reconnects without limit, and `round_trip` checks that it works."""

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
from nats.nuid import NUID

from antiphon.chassis.background import BackgroundTask, end_task
from antiphon.chassis.bus import metrics
from antiphon.chassis.bus.client import Message, NatsClient, OnMessage
from antiphon.chassis.bus.errors import (
    ApiError,
    BusUnavailable,
    InvalidSubject,
    NotPermitted,
    PayloadTooLarge,
)
from antiphon.chassis.bus.inbox import Inbox
from antiphon.chassis.bus.protocol import check_subject
from antiphon.chassis.bus.renewed import Renewal
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import InvalidAccess, NatsAccess, advice
from antiphon.chassis.retry import retrying

log = get_logger(__name__)

CONNECT_DEADLINE_SECONDS = 10.0
CANCEL_ATTEMPTS = 5  # to end an attempt to connect, a second each
RECONNECT_WAIT_SECONDS = 0.2
RECONNECT_ATTEMPT_SECONDS = 5.0
PING_INTERVAL_SECONDS = 3  # after three unanswered pings the server or our read loop is dead
MAX_UNANSWERED_PINGS = 2
CLOSE_FLUSH_SECONDS = 1.0
API_DEADLINE_SECONDS = 5.0
SEND_DEADLINE_SECONDS = 5.0  # for the socket to take what is sent, when the buffer is full
BUFFER_BYTES = 1 << 20  # nats-py waits for the socket when it holds twice as much
NO_RESPONDERS_SUBJECT = "antiphon.nobody"  # has no subscribers: the server answers 503 at once
PUBLISH, SUBSCRIBE = "publish", "subscription"  # as the server calls what it refuses
MOST_REFUSED = 100  # subjects that are remembered as refused, and logged
HEADER_LINE_BYTES = 16  # "NATS/1.0" and line ends around the headers, rounded up

_REFUSED_SUBJECT = re.compile(r'(?P<verb>Publish|Subscription) to "(?P<subject>[^"]*)"', re.IGNORECASE)

# Errors that a retry may resolve.
TRANSIENT: tuple[type[Exception], ...] = (BusUnavailable, TimeoutError, nats.errors.Error, OSError)


class ServerSubscription:
    """A subject and its handler, subscribed again on every new client."""

    def __init__(self, subject: str, on_message: OnMessage, group: str = "") -> None:
        self.subject = subject
        self.on_message = on_message
        self.group = group


class Connection:
    """A NATS connection that reconnects, with requests and subscriptions that survive a reconnect."""

    def __init__(self, access: NatsAccess, name: str) -> None:
        self._renewal = Renewal(access)
        self.address = ", ".join(access.servers)  # for messages
        self.name = name
        self._last_error: Exception | None = None
        self.client = NatsClient()
        self.connected = asyncio.Event()
        self._inbox_prefix = access.inbox_prefix  # of the user at the start: its replacement must hear it too
        self.inbox = Inbox(self.new_inbox())
        self._not_permitted: dict[tuple[str, str], str] = {}  # verb, subject: why
        self._subscriptions: dict[ServerSubscription, int] = {}
        self._on_reconnect: set[Callable[[], None]] = set()
        self.stored_at = -math.inf  # when an event was last stored, and when one was last not, by the clock
        self.not_stored_at = -math.inf  # time.monotonic
        self._open = False
        self._opening = False
        self._reopening: BackgroundTask | None = None
        self._unwatch = metrics.connected.watch(self.connected.is_set)

    async def open(self, timeout_seconds: float) -> None:
        """Connect for the first time.

        Raises BusUnavailable, InvalidAccess when a file with a certificate or key has none.
        """
        self._opening = True
        try:
            self.client = await self._connect(timeout_seconds)
        except TRANSIENT as error:
            self._unwatch()
            reason = f": {_explained(self._last_error)}" if self._last_error is not None else ""
            raise BusUnavailable(
                f"no NATS server answered at {self.address} within {timeout_seconds:g} s{reason}"
            ) from error
        except BaseException:
            self._unwatch()
            raise
        finally:
            self._opening = False
        await self.subscribe(self.inbox.subject, self.inbox.on_message)
        self._open = True
        self.connected.set()

    def new_inbox(self) -> str:
        """Return a unique reply subject, which the user of this connection may subscribe to."""
        return f"{self._inbox_prefix}.{NUID().next().decode()}"

    def check_permitted(self, subject: str, *, verb: str = SUBSCRIBE) -> None:
        """Raise NotPermitted if the server has refused this subject; to be called after a round trip."""
        if (verb, subject) in self._not_permitted:
            raise NotPermitted(self._not_permitted[verb, subject])

    @property
    def last_error(self) -> Exception | None:
        """The last error that the server or the client has reported, such as a missing permission."""
        return self._last_error

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send a message without waiting for an answer.

        Raises one of TRANSIENT, PayloadTooLarge, InvalidSubject.
        """
        check_subject(subject)
        self.check_size(payload, headers)
        client = self.client
        if client.pending_data_size + len(payload) < BUFFER_BYTES:  # it is only appended to the buffer
            await client.publish(subject, payload, reply=reply, headers=headers or None)
            return
        async with _deadline(SEND_DEADLINE_SECONDS):
            await client.publish(subject, payload, reply=reply, headers=headers or None)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_seconds: float = API_DEADLINE_SECONDS,
    ) -> Message:
        """Send a message once, as soon as there is a connection, and return the reply.

        Raises one of TRANSIENT, PayloadTooLarge, InvalidSubject.
        """
        if not self.connected.is_set():
            async with asyncio.timeout(timeout_seconds):
                await self.connected.wait()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Message] = loop.create_future()
        reply_subject = self.inbox.add(
            lambda msg: None if reply.done() else reply.set_result(msg), reply, subject
        )
        timer = loop.call_later(timeout_seconds, _expire, reply)
        try:
            await self.publish(subject, payload, headers, reply_subject)
            return await reply
        except BaseException:
            if reply.done() and not reply.cancelled():
                reply.exception()  # it may have expired while the socket took nothing: nobody else asks
            raise
        finally:
            timer.cancel()
            self.inbox.remove(reply_subject)

    async def api(
        self, verb: str, body: dict[str, Any] | None = None, timeout_seconds: float = API_DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """Call the JetStream API once, e.g. `STREAM.INFO.SESSIONS`.

        Raises ApiError, BusUnavailable.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        try:
            reply = await self.request(f"$JS.API.{verb}", payload, timeout_seconds=timeout_seconds)
        except NotPermitted:
            raise
        except TRANSIENT as error:
            raise BusUnavailable(f"NATS did not answer {verb}: {self._why(error)}") from error
        if reply.status == "503":
            raise BusUnavailable(f"JetStream is not available for {verb}")
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            if answer["error"].get("code") == 503:
                raise BusUnavailable(f"{verb}: {answer['error'].get('description')}")
            raise ApiError(answer["error"])
        return answer

    async def subscribe(self, subject: str, on_message: OnMessage, group: str = "") -> ServerSubscription:
        """Subscribe until `unsubscribe`; the subscription survives reconnects.

        A message goes to one of the subscriptions of a group. Raises BusUnavailable, InvalidSubject.
        """
        check_subject(subject)
        if ">" in subject.split(".")[:-1]:
            raise InvalidSubject(f"{subject[:200]!r} is not a subject: > stands for the last tokens only")
        subscription = ServerSubscription(subject, on_message, group)
        try:
            await self._register(subscription)
        except TRANSIENT as error:
            raise BusUnavailable(f"cannot subscribe to {subject}: {error!r}") from error
        return subscription

    async def unsubscribe(self, subscription: ServerSubscription) -> None:
        """End a subscription."""
        sid = self._subscriptions.pop(subscription, None)
        if sid is not None and not self.client.is_closed:
            try:
                async with _deadline(SEND_DEADLINE_SECONDS):
                    await self.client.remove_handler(sid)
            except Exception as error:  # noqa: BLE001 - a broken connection has no subscriptions left
                log.debug(
                    "nats.unsubscribe_failed", extra={"subject": subscription.subject, "error": repr(error)}
                )

    async def round_trip(self, timeout_seconds: float = API_DEADLINE_SECONDS) -> None:
        """Wait until the server has processed everything sent so far.

        Raises BusUnavailable.
        """
        # Not client.flush(): when it is cancelled, the next PONG ends nats-py's read loop.
        try:
            await self.request(NO_RESPONDERS_SUBJECT, timeout_seconds=timeout_seconds)
        except NotPermitted:
            raise
        except TRANSIENT as error:
            raise BusUnavailable(f"NATS did not answer at {self.address}: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        last = None if self.connected.is_set() else self._last_error  # why there is no connection says more
        return repr(error) if last is None else _explained(last)

    def check_size(self, payload: bytes, headers: dict[str, str] | None) -> None:
        """Check a message before it is sent.

        Raises PayloadTooLarge.
        """
        # The server closes the connection when payload and headers together are too large.
        size = len(payload)
        limit = self.client.max_payload
        if size * 2 > limit and headers:
            size += HEADER_LINE_BYTES + sum(len(k) + len(v.encode()) + 4 for k, v in headers.items())
        if size > limit:
            raise PayloadTooLarge(f"{size} bytes with headers; the broker accepts {limit}")

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every reconnect; return a function that removes the callback."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    async def close(self) -> None:
        """Flush for at most a second, and disconnect; both take three seconds at most."""
        if self._opening:  # what was missing is known here only
            extra = {"address": self.address, "error": repr(self._last_error or "no answer yet")}
            log.warning("nats.not_connected", extra=extra)
        opened, self._open = self._open, False
        self._unwatch()
        if self._reopening is not None:
            await self._reopening.close()
        if not self.client.is_closed:
            if opened:
                await self._flush()
            await self.client.end()

    async def _flush(self) -> None:
        try:
            await self.round_trip(CLOSE_FLUSH_SECONDS)
        except BusUnavailable as error:
            log.warning("nats.flush_failed", extra={"error": str(error)})

    async def _connect(self, timeout_seconds: float) -> NatsClient:
        options = self._renewal.options()  # certificates and credentials may have been renewed
        client = NatsClient(self._renewal, on_not_permitted=self._refused)

        def current(callback: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
            async def call() -> None:
                if client is self.client:  # a client that was given up has nothing to say
                    await callback()

            return call

        connect = client.connect(
            self._renewal.servers,
            name=self.name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type] # a fraction works
            ping_interval=PING_INTERVAL_SECONDS,
            max_outstanding_pings=MAX_UNANSWERED_PINGS,
            error_cb=self._error,
            disconnected_cb=current(self._disconnected),
            reconnected_cb=current(self._reconnected),
            closed_cb=current(self._closed),
            skip_subject_validation=True,  # subjects are made by contracts.subjects
            **options,
        )
        # Not asyncio.wait_for: nats-py may swallow the cancellation and connect on, without end.
        connecting = asyncio.ensure_future(connect)
        try:
            await asyncio.wait([connecting], timeout=timeout_seconds)
            if not connecting.done():
                raise TimeoutError  # noqa: TRY301 - both ways out clean up alike
            connecting.result()
        except BaseException:
            await end_task(connecting, attempts=CANCEL_ATTEMPTS)
            await client.end()
            raise
        return client

    async def _register(self, subscription: ServerSubscription) -> None:
        client = self.client
        async with _deadline(SEND_DEADLINE_SECONDS):
            sid = await client.add_handler(subscription.subject, subscription.on_message, subscription.group)
        self._subscriptions[subscription] = sid

    async def _reopen(self) -> None:
        # nats-py stops reconnecting after a fatal -ERR from the server: start again with a new client.
        await asyncio.sleep(RECONNECT_WAIT_SECONDS)
        await retrying(*TRANSIENT, InvalidAccess, on_retry=_log_failed_connect)(self._replace_client)
        await self._reconnected()

    async def _replace_client(self) -> None:
        self.client = await self._connect(RECONNECT_ATTEMPT_SECONDS)
        try:
            for subscription in tuple(self._subscriptions):
                if subscription in self._subscriptions:
                    await self._register(subscription)
        except BaseException:
            await self.client.end()  # else it would stay connected beside the next one
            raise

    async def _error(self, error: Exception) -> None:
        if self._last_error is None or not isinstance(error, ConnectionError):
            self._last_error = error  # a server that refuses also resets the connection, which says less
        # While disconnected, every reconnect attempt reports an error; the first one is enough.
        level = logging.WARNING if self.connected.is_set() else logging.DEBUG
        log.log(level, "nats.error", extra={"error": _explained(error)})

    def _refused(self, text: str) -> None:
        # Permissions Violation for Publish to "a.b", … for Subscription to "a.b" using queue "c"
        self._last_error = NotPermitted(text)
        found = _REFUSED_SUBJECT.search(text)
        if found is None:
            log.error("nats.not_permitted", extra={"address": self.address, "error": text})
            return
        subject, verb = found["subject"], found["verb"].lower()
        reason = f"the user of this connection to NATS lacks a permission: {text}"
        if (verb, subject) not in self._not_permitted and len(self._not_permitted) < MOST_REFUSED:
            log.error("nats.not_permitted", extra={"address": self.address, "error": text})
            self._not_permitted[verb, subject] = reason
        self.inbox.refuse(subject, reason)

    async def _disconnected(self) -> None:
        self.connected.clear()
        self.inbox.fail_pending()
        if self._open:
            log.warning("nats.disconnected")

    async def _reconnected(self) -> None:
        self._not_permitted.clear()  # the permissions may have changed
        self._last_error = None
        self.connected.set()
        metrics.reconnects.add()
        log.info("nats.reconnected")
        for callback in tuple(self._on_reconnect):
            try:
                callback()
            except Exception:  # it would end the reconnect, and the others would never be called
                log.exception("nats.callback_failed")

    async def _closed(self) -> None:
        if self._open and (self._reopening is None or self._reopening.done):
            log.error("nats.closed_by_server", extra={"error": repr(self.client.last_error)})
            self._reopening = BackgroundTask(self._reopen, name="reopen the NATS connection")


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError when the block takes longer, also where nats-py swallows the cancellation."""
    async with asyncio.timeout(seconds) as timeout:
        yield
    if timeout.expired():
        raise TimeoutError


def _explained(error: Exception) -> str:
    text = str(error) or repr(error)  # a TimeoutError has no text
    return f"{text}; {found}" if (found := advice(error)) else text


def _expire(reply: asyncio.Future[Message]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


def _log_failed_connect(error: BaseException, _: int) -> None:
    log.warning("nats.connect_failed", extra={"error": f"{error!r} {advice(error)}".rstrip()})
