"""Group commit: concurrent publishes share atomic batches, and so the cost of one fsync."""

import asyncio
from typing import NamedTuple

from antiphon.chassis.bus.bus import Bus
from antiphon.chassis.bus.errors import BusError, InvalidSubject, PayloadTooLarge
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.chassis.bus.publish import BATCH_LIMIT, PUBLISH_DEADLINE_SECONDS, Refused
from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

MAX_CONCURRENT = 12  # measured: one batch takes as long as about fifteen concurrent messages


class PendingCommit(NamedTuple):
    """A message to store, and the future of its ack."""

    out: Outgoing
    acked: asyncio.Future[Ack]


class GroupCommit:
    """A publisher with one group in flight; messages that arrive meanwhile form the next group.

    A group of up to `max_concurrent` messages is published concurrently, a larger one as an atomic batch.
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
        self._pending: list[PendingCommit] = []
        self._flushing: asyncio.Task[None] | None = None

    async def publish(self, out: Outgoing) -> Ack:
        """Store a message and return its own ack.

        Raises BusUnavailable, PayloadTooLarge, StreamFull, InvalidSubject.
        """
        acked: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._pending.append(PendingCommit(out, acked))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="group-commit")
        return await acked

    async def _flush(self) -> None:
        group: list[PendingCommit] = []
        try:
            while self._pending:
                group, self._pending = self._pending[:BATCH_LIMIT], self._pending[BATCH_LIMIT:]
                try:
                    await self._commit(group)
                except Exception as error:  # it is ours: the callers must not wait without end
                    log.exception("group_commit.failed")
                    for pending in group:
                        _fail(pending.acked, error)
        finally:
            self._flushing = None
            for pending in (*group, *self._pending):  # those without an answer: this task was cancelled
                pending.acked.cancel()
            self._pending = []

    async def _commit(self, group: list[PendingCommit]) -> None:
        if len(group) == 1:
            await self._commit_one(group[0])
        elif len(group) <= self._max_concurrent:
            await asyncio.gather(*(self._commit_one(pending) for pending in group))
        else:
            await self._commit_batch(group)

    async def _commit_batch(self, group: list[PendingCommit]) -> None:
        try:
            acks = await self._bus.publish_many(
                [pending.out for pending in group], timeout_seconds=self._timeout_seconds
            )
        except (PayloadTooLarge, InvalidSubject, Refused):
            # One message that cannot be stored must not fail the others.
            await asyncio.gather(*(self._commit_one(pending) for pending in group))
        except Exception as error:  # noqa: BLE001 - raised in every caller of publish
            for pending in group:
                _fail(pending.acked, error)
        else:
            for pending, ack in zip(group, acks, strict=True):
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
