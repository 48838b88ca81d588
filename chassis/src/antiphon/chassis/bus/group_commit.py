"""Coalesce concurrent publishes into atomic batches, so that many share the cost of one fsync."""

import asyncio

from antiphon.chassis.bus.errors import BusError, PayloadTooLarge
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.chassis.bus.port import BATCH_LIMIT, PUBLISH_DEADLINE_SECONDS, Bus

FEW = 12  # measured: a batch takes as long as about fifteen messages sent side by side

_Waiting = tuple[Outgoing, asyncio.Future[Ack]]


class GroupCommit:
    """Publish one group at a time; what comes meanwhile makes the next.

    A group of more than `few` goes as one batch, a smaller one as messages side by side.
    """

    def __init__(
        self, bus: Bus, *, timeout_seconds: float = PUBLISH_DEADLINE_SECONDS, few: int = FEW
    ) -> None:
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._few = few
        self._waiting: list[_Waiting] = []
        self._flight: asyncio.Task[None] | None = None

    async def publish(self, out: Outgoing) -> Ack:
        """Store a message and return where; each caller gets its own answer.

        Raises BusUnavailable, PayloadTooLarge, StreamFull.
        """
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._waiting.append((out, future))
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly(), name="group-commit")
        return await future

    async def _fly(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                await self._commit(group)
        finally:
            self._flight = None
            for _, future in self._waiting:  # only when the flight was cancelled
                future.cancel()
            self._waiting = []

    async def _commit(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            await self._commit_one(*group[0])
        elif len(group) <= self._few:
            await asyncio.gather(*(self._commit_one(out, future) for out, future in group))
        else:
            await self._commit_batch(group)

    async def _commit_batch(self, group: list[_Waiting]) -> None:
        try:
            acks = await self._bus.publish_many(
                [out for out, _ in group], timeout_seconds=self._timeout_seconds
            )
        except PayloadTooLarge:
            for out, future in group:  # one that is too large must not fail its neighbours
                await self._commit_one(out, future)
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            for _, future in group:
                _fail(future, error)
        else:
            for (_, future), ack in zip(group, acks, strict=True):
                _succeed(future, ack)

    async def _commit_one(self, out: Outgoing, future: asyncio.Future[Ack]) -> None:
        try:
            ack = await self._bus.publish(out, timeout_seconds=self._timeout_seconds)
        except Exception as error:  # noqa: BLE001 - handed to the one who waits for it
            _fail(future, error)
        else:
            _succeed(future, ack)


def _succeed(future: asyncio.Future[Ack], ack: Ack) -> None:
    if not future.done():
        future.set_result(ack)


def _fail(future: asyncio.Future[Ack], error: Exception) -> None:
    if future.done():
        return
    # Each waiter raises its own instance: a shared one would collect every waiter's traceback.
    future.set_exception(type(error)(*error.args) if isinstance(error, BusError) else error)
