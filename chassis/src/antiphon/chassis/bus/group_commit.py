"""Group commit: concurrent publishes share atomic batches, and so the cost of one fsync."""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from antiphon.chassis.bus.bus import Bus
from antiphon.chassis.bus.errors import BusError, InvalidSubject, PayloadTooLarge
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.chassis.bus.publish import BATCH_LIMIT, PUBLISH_DEADLINE_SECONDS, Refused

MAX_CONCURRENT = 12  # one batch takes as long as about fifteen concurrent messages: `make bench ARGS=create`


class PendingCommit(NamedTuple):
    """A message to store, and the future of its ack."""

    out: Outgoing
    acked: asyncio.Future[Ack]


class GroupCommit:
    """A publisher that sends each message at once while few wait, and all that wait as one atomic batch.

    Up to `max_concurrent` messages are in flight one by one. When more than that wait, a batch stores them in
    less time; messages that arrive until it is stored wait for its end, and then are sent in the same way.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        timeout_seconds: float = PUBLISH_DEADLINE_SECONDS,
        max_concurrent: int = MAX_CONCURRENT,
    ) -> None:
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._max_concurrent = max_concurrent
        self._pending: deque[PendingCommit] = deque()
        self._scheduled = False
        self._batch: asyncio.Task[None] | None = None
        self._singles: set[asyncio.Task[None]] = set()

    async def publish(self, out: Outgoing) -> Ack:
        """Store a message and return its own ack.

        Raises BusUnavailable, PayloadTooLarge, StreamFull, InvalidSubject.
        """
        loop = asyncio.get_running_loop()
        acked: asyncio.Future[Ack] = loop.create_future()
        self._pending.append(PendingCommit(out, acked))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)  # after the callers that are about to publish too
        return await acked

    def _start(self) -> None:
        """Send what may be in flight now."""
        self._scheduled = False
        if self._batch is not None or not self._pending:
            return
        if len(self._pending) > self._max_concurrent:
            group = [self._pending.popleft() for _ in range(min(BATCH_LIMIT, len(self._pending)))]
            self._batch = asyncio.create_task(self._commit_batch(group), name="group-commit: batch")
            self._batch.add_done_callback(lambda _: self._batch_ended(group))
            return
        while self._pending and len(self._singles) < self._max_concurrent:
            pending = self._pending.popleft()
            single = asyncio.create_task(self._commit_one(pending), name="group-commit: message")
            self._singles.add(single)
            single.add_done_callback(partial(self._single_ended, pending))

    def _batch_ended(self, group: Sequence[PendingCommit]) -> None:
        self._batch = None
        for pending in group:
            pending.acked.cancel()  # those without an answer: the task was cancelled
        self._start()

    def _single_ended(self, pending: PendingCommit, single: asyncio.Task[None]) -> None:
        self._singles.discard(single)
        pending.acked.cancel()
        self._start()

    async def _commit_batch(self, group: Sequence[PendingCommit]) -> None:
        try:
            acks = await self._bus.publish_many(
                [pending.out for pending in group], timeout_seconds=self._timeout_seconds
            )
            acknowledged = list(zip(group, acks, strict=True))
        except (PayloadTooLarge, InvalidSubject, Refused):
            # One message that cannot be stored must not fail the others.
            await asyncio.gather(*(self._commit_one(pending) for pending in group))
        except Exception as error:  # noqa: BLE001 - raised in every caller of publish
            for pending in group:
                _fail(pending.acked, error)
        else:
            for pending, ack in acknowledged:
                _succeed(pending.acked, ack)

    async def _commit_one(self, pending: PendingCommit) -> None:
        try:
            ack = await self._bus.publish(pending.out, timeout_seconds=self._timeout_seconds)
        except Exception as error:  # noqa: BLE001 - raised in the caller of publish
            _fail(pending.acked, error)
        else:
            _succeed(pending.acked, ack)


def _succeed(acked: asyncio.Future[Ack], ack: Ack) -> None:
    if not acked.done():
        acked.set_result(ack)


def _fail(acked: asyncio.Future[Ack], error: Exception) -> None:
    if acked.done():
        return
    acked.set_exception(_own_instance(error))


def _own_instance(error: Exception) -> Exception:
    # Each caller raises its own instance: a shared one would collect every caller's traceback.
    if not isinstance(error, BusError):
        return error
    try:
        return type(error)(*error.args)
    except Exception:  # noqa: BLE001 - an error with arguments of its own: shared, but raised
        return error
