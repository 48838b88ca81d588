"""The connection to NATS: never given up, and never believed without a round trip."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.bus.errors import BusError, BusUnavailable, PayloadTooLarge
from chassis.bus.inbox import ConnectionLost, Inbox

log = structlog.get_logger(__name__)

RECONNECT_WAIT_SECONDS = 0.2
PING_INTERVAL_SECONDS = 10
DRAIN_SECONDS = 3
API_DEADLINE_SECONDS = 5.0

# Everything that says "not now" and never "not so".
TRANSIENT: tuple[type[Exception], ...] = (TimeoutError, ConnectionLost, nats.errors.Error, OSError)


class ApiError(BusError):
    """The JetStream API answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = int(error.get("code", 0))
        self.err_code = int(error.get("err_code", 0))
        super().__init__(f"{error.get('description', 'no description')} ({self.code}/{self.err_code})")


class Connection:
    """Send, ask and subscribe over one NATS connection that comes back by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Client()
        self.connected = asyncio.Event()
        self.inbox: Inbox
        self._on_reconnect: set[Callable[[], None]] = set()
        self._closing = False

    async def open(self, name: str, timeout_seconds: float) -> None:
        """Connect for the first time.

        Raises BusUnavailable.
        """
        connecting = self.client.connect(
            self.url,
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type] # seconds, may be a fraction
            ping_interval=PING_INTERVAL_SECONDS,
            drain_timeout=DRAIN_SECONDS,
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            closed_cb=self._closed,
            skip_subject_validation=True,  # subjects are made by contracts.subjects
        )
        try:
            await asyncio.wait_for(connecting, timeout_seconds)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise BusUnavailable(
                f"no NATS server answered at {self.url} within {timeout_seconds:g} s"
            ) from error
        self.inbox = Inbox(self.client)
        await self.inbox.open()
        self.connected.set()

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_seconds: float = API_DEADLINE_SECONDS,
    ) -> Msg:
        """Ask once, as soon as there is a connection.

        Raises one of TRANSIENT, PayloadTooLarge.
        """
        if self.client.is_closed:
            raise ConnectionLost
        async with asyncio.timeout(timeout_seconds):
            await self.connected.wait()
        try:
            return await self.inbox.request(subject, payload, headers, timeout_seconds)
        except nats.errors.MaxPayloadError as error:
            limit = self.client.max_payload
            raise PayloadTooLarge(f"{len(payload)} bytes; the broker accepts {limit}") from error

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
        if status(reply) == "503":
            raise BusUnavailable(f"JetStream is not there to answer {verb}")
        answer: dict[str, Any] = json.loads(reply.data)
        if "error" in answer:
            if answer["error"].get("code") == 503:
                raise BusUnavailable(f"{verb}: {answer['error'].get('description')}")
            raise ApiError(answer["error"])
        return answer

    async def round_trip(self, timeout_seconds: float = API_DEADLINE_SECONDS) -> None:
        """Wait until the server has taken in everything sent so far.

        Raises BusUnavailable.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.connected.wait()
                await self.client.flush()
        except TRANSIENT as error:
            raise BusUnavailable(f"NATS did not answer at {self.url}: {error!r}") from error

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every reconnect; returns the way to stop it."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    async def close(self) -> None:
        """Drain within a few seconds, then disconnect in any case."""
        self._closing = True
        if self.client.is_closed:
            return
        try:
            async with asyncio.timeout(DRAIN_SECONDS + 2):
                await self.client.drain()
        except TRANSIENT:
            await self.client.close()

    async def _error(self, error: Exception) -> None:
        log.warning("nats.error", error=repr(error))

    async def _disconnected(self) -> None:
        self.connected.clear()
        self.inbox.connection_lost()
        if not self._closing:
            log.warning("nats.disconnected")

    async def _reconnected(self) -> None:
        self.connected.set()
        log.info("nats.reconnected", reconnects=self.client.stats["reconnects"])
        for callback in tuple(self._on_reconnect):
            callback()

    async def _closed(self) -> None:
        if not self._closing:
            log.error("nats.closed", error=repr(self.client.last_error))


def status(msg: Msg) -> str | None:
    """Return the status of a message that carries no data, such as "503" or "408"."""
    return msg.headers.get("Status") if msg.headers else None
