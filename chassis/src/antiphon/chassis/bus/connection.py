"""The connection to NATS: never given up, and never believed without a round trip."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import nats.errors
import structlog

from antiphon.chassis.bus.client import Message, OnMessage, QuickClient
from antiphon.chassis.bus.errors import BusError, BusUnavailable, PayloadTooLarge
from antiphon.chassis.bus.inbox import ConnectionLost, Inbox

log = structlog.get_logger(__name__)

RECONNECT_WAIT_SECONDS = 0.2
CONNECT_SECONDS = 5.0
PING_INTERVAL_SECONDS = 3  # a server, or a read loop of ours, that is silent for three pings is dead
PINGS_UNANSWERED = 2
LAST_WORDS_SECONDS = 1.0
API_DEADLINE_SECONDS = 5.0
NOBODY = "antiphon.nobody"  # the server itself answers at once that nobody listens here
HEADER_LINE_BYTES = 16  # what NATS adds around the headers, and a little more

# Everything that says "not now" and never "not so".
TRANSIENT: tuple[type[Exception], ...] = (TimeoutError, ConnectionLost, nats.errors.Error, OSError)


class ApiError(BusError):
    """The JetStream API answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.err_code = int(error.get("err_code", 0))
        super().__init__(f"{error.get('description', 'no description')} ({self.code}/{self.err_code})")


class Interest:
    """Name what is subscribed to; it outlives the client that carries it."""

    def __init__(self, subject: str, on_message: OnMessage) -> None:
        self.subject = subject
        self.on_message = on_message


class Connection:
    """Send, ask and subscribe over one NATS connection that comes back by itself."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.client = QuickClient()
        self.connected = asyncio.Event()
        self.inbox = Inbox(self)
        self._interests: dict[Interest, int] = {}
        self._on_reconnect: set[Callable[[], None]] = set()
        self._open = False
        self._reviving: asyncio.Task[None] | None = None

    async def open(self, timeout_seconds: float) -> None:
        """Connect for the first time.

        Raises BusUnavailable.
        """
        try:
            self.client = await self._connect(timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(
                f"no NATS server answered at {self.url} within {timeout_seconds:g} s"
            ) from error
        await self.inbox.open()
        self._open = True
        self.connected.set()

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send a message, with no answer.

        Raises one of TRANSIENT, PayloadTooLarge.
        """
        self._must_fit(payload, headers)
        await self.client.publish(subject, payload, reply=reply, headers=headers)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_seconds: float = API_DEADLINE_SECONDS,
    ) -> Message:
        """Ask once, as soon as there is a connection.

        Raises one of TRANSIENT, PayloadTooLarge.
        """
        if not self.connected.is_set():
            async with asyncio.timeout(timeout_seconds):
                await self.connected.wait()
        return await self.inbox.request(subject, payload, headers, timeout_seconds)

    async def api(
        self, verb: str, body: dict[str, Any] | None = None, timeout_seconds: float = API_DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """Ask the JetStream API once, e.g. `STREAM.INFO.SESSIONS`.

        Raises ApiError, BusUnavailable.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        try:
            reply = await self.request(f"$JS.API.{verb}", payload, timeout_seconds=timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(f"NATS did not answer {verb}: {error!r}") from error
        if reply.status == "503":
            raise BusUnavailable(f"JetStream is not there to answer {verb}")
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            if answer["error"].get("code") == 503:
                raise BusUnavailable(f"{verb}: {answer['error'].get('description')}")
            raise ApiError(answer["error"])
        return answer

    async def subscribe(self, subject: str, on_message: OnMessage) -> Interest:
        """Subscribe until `unsubscribe`, over every reconnect.

        Raises BusUnavailable.
        """
        interest = Interest(subject, on_message)
        try:
            await self._carry(interest)
        except TRANSIENT as error:
            raise BusUnavailable(f"{subject} cannot be subscribed to: {error!r}") from error
        return interest

    async def unsubscribe(self, interest: Interest) -> None:
        """End a subscription."""
        sid = self._interests.pop(interest, None)
        if sid is not None and not self.client.is_closed:
            try:
                await self.client.unsubscribe_directly(sid)
            except nats.errors.Error as error:
                log.debug("nats.unsubscribe", subject=interest.subject, error=repr(error))

    async def round_trip(self, timeout_seconds: float = API_DEADLINE_SECONDS) -> None:
        """Wait until the server has taken in everything sent so far.

        Raises BusUnavailable.
        """
        # Not client.flush(): when it is cancelled, the next PONG ends nats-py's read loop.
        try:
            await self.request(NOBODY, timeout_seconds=timeout_seconds)
        except TRANSIENT as error:
            raise BusUnavailable(f"NATS did not answer at {self.url}: {error!r}") from error

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every reconnect; returns the way to stop it."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    async def close(self) -> None:
        """Let the server take in what was sent, for a second at most, and disconnect."""
        self._open = False
        if self._reviving is not None:
            self._reviving.cancel()
        if self.client.is_closed:
            return
        try:
            await self.round_trip(LAST_WORDS_SECONDS)
        except BusUnavailable as error:
            log.warning("nats.closed_unheard", error=str(error))
            # nats-py would try to flush into the broken connection, fail, and leave its tasks running.
            self.client._pending, self.client._pending_data_size = [], 0
        await self.client.close()

    def _must_fit(self, payload: bytes, headers: dict[str, str] | None) -> None:
        # The server closes a connection for good when payload and headers together are too large.
        size = len(payload)
        limit = self.client.max_payload
        if size * 2 > limit and headers:
            size += HEADER_LINE_BYTES + sum(len(k) + len(v.encode()) + 4 for k, v in headers.items())
        if size > limit:
            raise PayloadTooLarge(f"{size} bytes with headers; the broker accepts {limit}")

    async def _connect(self, timeout_seconds: float) -> QuickClient:
        client = QuickClient()
        connecting = client.connect(
            self.url,
            name=self.name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type] # a fraction is fine
            ping_interval=PING_INTERVAL_SECONDS,
            max_outstanding_pings=PINGS_UNANSWERED,
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            closed_cb=self._closed,
            skip_subject_validation=True,  # subjects are made by contracts.subjects
        )
        try:
            await asyncio.wait_for(connecting, timeout_seconds)
        except BaseException:
            await client.close()
            raise
        return client

    async def _carry(self, interest: Interest) -> None:
        sid = await self.client.subscribe_directly(interest.subject, interest.on_message)
        self._interests[interest] = sid

    async def _revive(self) -> None:
        # nats-py gives up for good when the server says a fatal -ERR; we begin again with a new client.
        while True:
            await asyncio.sleep(RECONNECT_WAIT_SECONDS)
            try:
                self.client = await self._connect(CONNECT_SECONDS)
                for interest in tuple(self._interests):
                    if interest in self._interests:
                        await self._carry(interest)
            except TRANSIENT as error:
                log.warning("nats.connect_failed", error=repr(error))
            else:
                await self._reconnected()
                return

    async def _error(self, error: Exception) -> None:
        # While we reconnect, an error comes with every attempt: one line at its start says enough.
        say = log.warning if self.connected.is_set() else log.debug
        say("nats.error", error=repr(error))

    async def _disconnected(self) -> None:
        self.connected.clear()
        self.inbox.connection_lost()
        if self._open:
            log.warning("nats.disconnected")

    async def _reconnected(self) -> None:
        self.connected.set()
        log.info("nats.reconnected")
        for callback in tuple(self._on_reconnect):
            callback()

    async def _closed(self) -> None:
        if self._open and (self._reviving is None or self._reviving.done()):
            log.error("nats.closed_by_server", error=repr(self.client.last_error))
            self._reviving = asyncio.create_task(self._revive(), name="revive the NATS connection")
