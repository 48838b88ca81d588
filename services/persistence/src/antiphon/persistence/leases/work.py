"""The work of a group: one call for each partition that this replica holds."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from antiphon.chassis.background import end_task
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.errors import Fenced
from antiphon.persistence.leases.connection import Leases
from antiphon.persistence.leases.group import Lease, LeaseGroup
from antiphon.persistence.readiness import ReadinessCheck

log = structlog.get_logger(__name__)

FINISH_SECONDS = 5.0  # for the current batch, when the lease ends
CANCEL_ATTEMPTS = 5  # then, a second each
LEAVE_SECONDS = 2.0  # to release the locks at the end; else the end of the connection does

Work = Callable[[int, asyncio.Event], Awaitable[None]]  # works on a partition until the event is set


async def run_while_leased(
    leases: Leases,
    group: str,
    work: Work,
    readiness: ReadinessCheck,
    stop: asyncio.Event,
    *,
    partitions: int = PARTITIONS,
) -> None:
    """Join a group, and call `work` for each partition while this process holds its lease, until stopped.

    The event of `work` is set when the lease ends; the call is cancelled when it has not ended FINISH_SECONDS
    later. A replica that holds nothing is ready: it can take over.
    Raises the errors of `work` but Fenced, after which it is called again when the lease is held again.
    """
    readiness.starting(group)
    joined = leases.join(group, partitions)
    try:
        async with asyncio.TaskGroup() as tasks:
            with suppress(ShuttingDown):
                await wait_or_stop(joined.seen.wait(), stop)
                readiness.healthy(group)
                while True:
                    lease = await wait_or_stop(joined.next(), stop)
                    tasks.create_task(_work(joined, lease, work), name=lease.name)
            joined.leave()
    finally:
        joined.leave()
        readiness.healthy(group)
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_SECONDS):
            await joined.left.wait()


async def _work(group: LeaseGroup, lease: Lease, work: Work) -> None:
    try:
        await _work_while_held(lease, work)
    except Fenced as error:
        log.warning("lease.fenced", lease=lease.name, error=str(error))
        group.release(lease, fenced=True)
    finally:
        group.release(lease)


async def _work_while_held(lease: Lease, work: Work) -> None:
    # A commit that still succeeds is in the checkpoint, from which the next holder of the lease continues.
    await finished(work(lease.partition, lease.ended), lease.ended, lease.name)


async def finished(work: Awaitable[None], ended: asyncio.Event, name: str) -> None:
    """Wait for work that ends when the event is set; it is cancelled when it has not FINISH_SECONDS later.

    Raises its error.
    """
    working = asyncio.ensure_future(work)
    ending = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=FINISH_SECONDS)
        if working.done():
            working.result()  # raises the error that ended the work
        else:
            # It waits for a server that does not answer.
            log.warning("lease.work_abandoned", lease=name, seconds=FINISH_SECONDS)
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await end_task(working, attempts=CANCEL_ATTEMPTS)
