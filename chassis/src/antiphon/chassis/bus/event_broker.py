"""A FastStream broker whose subscribers of events read through `PartitionPull`.

FastStream gives the handlers their place: start, stop, middlewares. Pulls, acks and durables are ours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats.errors import AuthorizationError, Error
from nats.js import JetStreamContext

from antiphon.chassis.bus.connection import CONNECT_DEADLINE_SECONDS, Connection
from antiphon.chassis.bus.dead_letters import DeadLetters
from antiphon.chassis.bus.durable import Durable, explained
from antiphon.chassis.bus.errors import BusUnavailable, StreamMissing
from antiphon.chassis.bus.partition_pull import Delivery, PartitionPull
from antiphon.chassis.bus.renewed import Renewal, RenewedClient
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.retry import retrying
from antiphon.contracts.streams import SESSIONS

try:
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
except ImportError as error:  # the extra is not installed, or without NATS
    raise ImportError(
        "typed consumers need FastStream: pip install 'antiphon-chassis[faststream]'"
    ) from error

if TYPE_CHECKING:
    from types import TracebackType

log = get_logger(__name__)

DRAIN_SECONDS = 5
WAIT_SECONDS = 15.0  # for persistence, which makes the stream when it starts

# what a server says to a connection whose user was changed or has expired
REFUSALS = ("authorization", "authentication", "revoked")

Handle = Callable[[PartitionPull, Delivery], Awaitable[None]]


class _Streams(JetStreamContext):
    """The JetStream of a broker; a durable of ours is read by our pull, any other as nats-py does it."""

    pulls: dict[str, PartitionPull]

    async def pull_subscribe(self, subject: str, durable: str | None = None, *args: Any, **named: Any) -> Any:
        pull = self.pulls.get(durable or "")
        if pull is None:
            return await super().pull_subscribe(subject, durable, *args, **named)
        await retrying(BusUnavailable, StreamMissing, timeout_seconds=WAIT_SECONDS)(
            explained, pull.connection, pull.open
        )
        return pull


class _Client(RenewedClient):
    """The connection for what handlers publish."""

    pulls: dict[str, PartitionPull]

    def jetstream(self, **options: Any) -> JetStreamContext:
        streams = _Streams(self, **options)
        streams.pulls = self.pulls
        return streams

    async def _process_err(self, err_msg: str) -> None:
        if self.is_connected and any(word in err_msg.lower() for word in REFUSALS):
            # nats-py would close for good; the password of the next attempt may be a new one
            await self._process_op_err(AuthorizationError())
            return
        await super()._process_err(err_msg)


class EventBroker(NatsBroker):
    """A NatsBroker with a connection of its own for events, which reconnects without limit."""

    def __init__(
        self, access: NatsAccess, name: str, middlewares: Sequence[Any], graceful_seconds: float
    ) -> None:
        self._access = access
        self._declared: dict[str, tuple[Callable[[], Durable], str]] = {}
        self._pulls: dict[str, PartitionPull] = {}
        self.events = Connection(access, name)
        self.dead_letters = DeadLetters(self.events, name)
        super().__init__(
            access.servers,
            name=name,
            max_reconnect_attempts=-1,
            ack_policy=AckPolicy.MANUAL,  # its default gives up what a handler raises for
            graceful_timeout=graceful_seconds,
            drain_timeout=DRAIN_SECONDS,
            middlewares=middlewares,
            logger=None,  # it would log each message twice
        )

    def subscribe(self, durable: Callable[[], Durable], name: str, label: str, handle: Handle) -> None:
        """Declare the subscriber of one durable; `durable` is called at the start: handlers are known."""

        async def deliver(delivery: Any) -> None:
            await handle(self._pulls[name], delivery)

        self._declared[name] = (durable, label)
        subscriber = self.subscriber(
            label,
            durable=name,
            stream=JStream(SESSIONS.name, declare=False),  # else FastStream rewrites its configuration
            pull_sub=PullSub(batch_size=1),  # of a larger batch all are handled at once
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_undecoded,  # a message that is no JSON is ours to set aside
        )
        subscriber(deliver)

    async def _connect(self) -> _Client:
        log.info("consumer.connecting", extra={"consumer": self.events.name, "address": self.events.address})
        await self.events.open(CONNECT_DEADLINE_SECONDS)
        await explained(self.events, self.dead_letters.ensure)
        for name, (durable, label) in self._declared.items():
            self._pulls[name] = PartitionPull(self.events, durable(), label)
        renewal = Renewal(self._access)
        client = _Client(renewal)
        client.pulls = self._pulls
        options = self._connection_kwargs | renewal.options()
        options["inbox_prefix"] = self._access.current().inbox_prefix
        async with asyncio.timeout(CONNECT_DEADLINE_SECONDS):
            await client.connect(**options)
        self.config.connect(client)
        return client

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: "TracebackType | None" = None,
    ) -> None:
        """Let the open pulls and the running handlers end, then disconnect."""
        publishing = self._connection
        try:
            await super().stop(exc_type, exc_val, exc_tb)
        except (Error, TimeoutError) as error:  # the server is away or has closed it: nothing to drain
            log.warning("consumer.not_drained", extra={"consumer": self.events.name, "error": repr(error)})
        finally:
            if publishing is not None and not publishing.is_closed:
                with suppress(Error, TimeoutError, OSError):
                    async with asyncio.timeout(DRAIN_SECONDS):
                        await publishing.close()
            await self.events.close()

    def check(self) -> None:
        """Raise BusUnavailable unless every partition is read and handlers can publish."""
        if len(self._pulls) < len(self._declared) or self._connection is None:
            raise BusUnavailable("the broker has not started")
        for pull in self._pulls.values():
            pull.check()
        if not self._connection.is_connected:
            raise BusUnavailable("the connection for what handlers publish is lost")

    async def pending(self) -> int:
        """Return how many events are not yet done with."""
        return sum([await pull.pending() for pull in self._pulls.values()])


async def _undecoded(message: NatsMessage) -> Any:
    return message.raw_message
