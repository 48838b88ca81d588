"""A consumer of one's own: typed handlers for the events on the bus, on FastStream, without its pitfalls.

Each event is handled at least once and in the order of its session; its id tells a second time from a first.
"""

import asyncio
import inspect
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from antiphon.chassis.bus.durable import Durable, Start, check_name, filters, permissions
from antiphon.chassis.bus.errors import BusError
from antiphon.chassis.bus.event_broker import EventBroker
from antiphon.chassis.bus.partition_pull import Delivery, PartitionPull
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import NatsAccess
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.errors import ContractError, UnknownEventType, UnsupportedEventVersion
from antiphon.contracts.event import Event
from antiphon.contracts.registry import family_of, open_event
from antiphon.contracts.subjects import PARTITIONS, partition_filter
from antiphon.contracts.validate import validate_event

__all__ = ["RETRIES", "Start", "TypedConsumer", "permissions"]

log = get_logger(__name__)

RETRIES = (1.0, 5.0, 30.0, 120.0)  # seconds before the second, third, … delivery; then it is a dead letter
HANDLER_SECONDS = 20.0
ACK_WAIT_MARGIN_SECONDS = 10.0  # for the dead letter and the ack
MAX_UNKNOWN = 100  # types that are counted by name
OTHER = "other"

EventT = TypeVar("EventT", bound=Event)
Handler = Callable[[EventT, Envelope], Awaitable[object]]
UnknownHandler = Callable[[Envelope], Awaitable[object]]
Call = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Failures:
    """How often the handler of one delivered event has failed in this process."""

    position: int
    id: str
    transient: int = 0
    other: int = 0


class TypedConsumer:
    """A durable consumer of the events of all sessions, or of one tenant's.

    Run its `broker` in a FastStream application. The name is that of its durables, one per partition, and of
    its dead letters. Processes with the same name share the work. `start` counts when a durable is made.
    An error that is one of `transient` (a database that is away) is retried without end, any other as often
    as `retries` has delays; the event is then stored in the stream `DEAD_<name>`. Each process counts the
    errors that it has seen: neither transient ones nor a restart use up retries.
    Raises ValueError, and ImportError without the extra `faststream`.
    """

    def __init__(
        self,
        name: str,
        access: str | NatsAccess,
        *,
        start: Start | str = Start.BEGINNING,
        tenant: str = "*",
        retries: Sequence[float] = RETRIES,
        transient: tuple[type[Exception], ...] = (),
        handler_seconds: float = HANDLER_SECONDS,
        middlewares: Sequence[Any] = (),
    ) -> None:
        check_name(name)
        if not retries or min(retries) <= 0:
            raise ValueError("retries: give at least one delay, in seconds above 0")
        self.name = name
        self.counts: Counter[tuple[str, str]] = Counter()  # by event type and outcome: few values
        self._start = Start(start)
        self._tenant = tenant
        self._retries = tuple(retries)
        self._transient = transient
        self._handler_seconds = handler_seconds
        self._handlers: dict[str, Handler[Any]] = {}
        self._on_unknown: UnknownHandler | None = None
        self._unknown: Counter[str] = Counter()
        self._failing: dict[int, str] = {}  # by partition
        self._failures: dict[int, _Failures] = {}  # by partition, which has one event under way
        if isinstance(access, str):
            access = NatsAccess(url=access)
        self.broker = EventBroker(access, name, middlewares, handler_seconds + ACK_WAIT_MARGIN_SECONDS)
        for partition in range(PARTITIONS):
            self.broker.subscribe(
                partial(self._durable, partition),
                f"{name}-{partition}",
                partition_filter(partition),
                self._handle,
            )

    def on(self, event: type[EventT]) -> Callable[[Handler[EventT]], Handler[EventT]]:
        """Register the handler of an event type: `async def handler(event, envelope)`."""

        def register(handler: Handler[EventT]) -> Handler[EventT]:
            _check_async(handler)
            if event.TYPE in self._handlers:
                raise ValueError(f"{event.TYPE} has a handler already")
            self._handlers[event.TYPE] = handler
            return handler

        return register

    def on_unknown(self, handler: UnknownHandler) -> UnknownHandler:
        """Register the handler of types and versions that these contracts do not know.

        With it the consumer receives all events, else only those of the families of its handlers.
        """
        _check_async(handler)
        self._on_unknown = handler
        return handler

    async def ready(self) -> str:
        """Return which events fail at the moment; for `Health.add`.

        Raises BusUnavailable unless every partition is read.
        """
        self.broker.check()
        return "; ".join(self._failing.values())

    async def pending(self) -> int:
        """Return how many events are not yet handled.

        Raises BusUnavailable, ApiError.
        """
        return await self.broker.pending()

    def _durable(self, partition: int) -> Durable:
        if not self._handlers and self._on_unknown is None:
            raise ValueError(
                f"consumer {self.name} has no handlers: register one with @consumer.on(EventType)"
            )
        families = None if self._on_unknown else sorted({family_of(kind) for kind in self._handlers})
        return Durable(
            self.name,
            partition,
            filters(partition, self._tenant, families),
            self._start,
            self._handler_seconds + ACK_WAIT_MARGIN_SECONDS,
        )

    async def _handle(self, pull: PartitionPull, delivery: Delivery) -> None:
        try:
            kind, outcome = await self._outcome(pull, delivery)
            self.counts[kind, outcome] += 1
            if outcome != "retried":
                await pull.acknowledge(delivery)
                self._failing.pop(pull.durable.partition, None)
                self._failures.pop(pull.durable.partition, None)
        except BusError as error:  # it is delivered again: its handler may see it twice
            log.warning(
                "consumer.not_acknowledged", extra={"consumer": pull.durable.name, "error": str(error)}
            )

    async def _outcome(self, pull: PartitionPull, delivery: Delivery) -> tuple[str, str]:
        """Handle a delivery; return the type of the event and what became of it."""
        try:
            envelope, _ = validate_event(delivery.published_on, delivery.data)
        except ContractError as error:
            return OTHER, await self._bury(pull, delivery, OTHER, f"not an event: {error}")
        try:
            event = open_event(envelope)
        except (UnknownEventType, UnsupportedEventVersion) as error:
            return await self._unknown_event(pull, delivery, envelope, error)
        handler = self._handlers.get(envelope.type)
        if handler is None:
            return OTHER, "skipped"
        return envelope.type, await self._call(pull, delivery, envelope, lambda: handler(event, envelope))

    async def _unknown_event(
        self, pull: PartitionPull, delivery: Delivery, envelope: Envelope, error: ContractError
    ) -> tuple[str, str]:
        handler = self._on_unknown
        if handler is not None:
            return OTHER, await self._call(pull, delivery, envelope, lambda: handler(envelope))
        known = envelope.type in self._unknown or len(self._unknown) < MAX_UNKNOWN
        kind = envelope.type if known else OTHER
        self._unknown[kind] += 1
        count = self._unknown[kind]
        if str(count).strip("0") == "1":  # 1, 10, 100, …
            log.warning("consumer.unknown_event", extra={"type": kind, "count": count, "error": str(error)})
        return OTHER, "unknown"

    async def _call(
        self,
        pull: PartitionPull,
        delivery: Delivery,
        envelope: Envelope,
        call: Callable[[], Awaitable[object]],
    ) -> str:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(self._handler_seconds):
                await call()
        except (SystemExit, KeyboardInterrupt):
            raise
        # Also an await of another task that was cancelled: passed on, it would come again without end.
        except BaseException as error:
            if _is_ended(task, error):
                raise
            return await self._failed(pull, delivery, envelope, error)
        return "handled"

    async def _failed(
        self, pull: PartitionPull, delivery: Delivery, envelope: Envelope, error: BaseException
    ) -> str:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        failures = self._failures_of(pull.durable.partition, delivery, envelope)
        if isinstance(error, self._transient):
            failures.transient += 1
            attempt = failures.transient
        else:
            failures.other += 1
            attempt = failures.other
            if attempt > len(self._retries):
                return await self._bury(pull, delivery, envelope.type, reason)
        delay = self._retries[min(attempt, len(self._retries)) - 1]
        log.warning(
            "consumer.handler_failed",
            extra={
                "consumer": self.name,
                "type": envelope.type,
                "id": envelope.id,
                "attempt": attempt,
                "deliveries": delivery.deliveries,
                "again_seconds": delay,
                "traceback": "".join(traceback.format_exception(error)) if attempt == 1 else reason,
            },
        )
        failed = failures.transient + failures.other
        self._failing[pull.durable.partition] = (
            f"{envelope.type} {envelope.id} failed {failed} times: {reason}"
        )
        await pull.deliver_again(delivery, delay)
        return "retried"

    def _failures_of(self, partition: int, delivery: Delivery, envelope: Envelope) -> _Failures:
        found = self._failures.get(partition)
        if found is None or (found.position, found.id) != (delivery.position, envelope.id):
            # Another process that shares the work may have handled the one before.
            found = self._failures[partition] = _Failures(delivery.position, envelope.id)
        return found

    async def _bury(self, pull: PartitionPull, delivery: Delivery, kind: str, reason: str) -> str:
        letters = self.broker.dead_letters
        fields = {"stream": letters.stream, "position": delivery.position, "type": kind, "reason": reason}
        try:
            await letters.store(
                delivery.data, delivery.published_on, delivery.position, delivery.deliveries, reason
            )
        except BusError as error:  # the event must not be lost: the partition waits
            self._failing[pull.durable.partition] = f"position {delivery.position} is no dead letter: {error}"
            log.error("consumer.dead_letter_failed", extra={**fields, "error": str(error)})  # noqa: TRY400
            await pull.deliver_again(delivery, self._retries[-1])
            return "retried"
        log.error("consumer.dead_letter", extra=fields)
        return "dead"


def _is_ended(task: asyncio.Task[Any] | None, error: BaseException) -> bool:
    """Return whether an error ends the task of a handler, and is none that the handler has raised."""
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    if isinstance(error, GeneratorExit):  # Python closes a task that the loop has left behind from outside it
        try:
            return asyncio.current_task() is not task
        except RuntimeError:
            return True
    return False


def _check_async(handler: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{handler!r} is not a handler: it must be an async function")
