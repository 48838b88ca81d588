"""Do a piece of work for as long as its lease is ours, again and again, until stopped."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from antiphon.persistence.condition import Condition
from antiphon.persistence.lease import Lease, Leases
from antiphon.persistence.patience import Patience, Stopped, or_stop

log = structlog.get_logger(__name__)

Work = Callable[[asyncio.Event], Awaitable[None]]


FENCED = "AP001"  # the SQLSTATE by which our functions say so


class Fenced(Exception):
    """Another writer has taken this piece of work over."""


async def keep(leases: Leases, name: str, work: Work, condition: Condition, stop: asyncio.Event) -> None:
    """Wait for the lease, do the work until it ends or the lease is lost, and wait again.

    The work gets an event that tells it to stop, and is left to finish what it has in hand.
    A replica that waits its turn is ready: it is there to take over.
    """
    patience = Patience(stop)
    try:
        while not stop.is_set():
            condition.starting(name)
            lease = leases.ask(name)
            try:
                await or_stop(lease.asked.wait(), stop)
                condition.good(name)
                await or_stop(lease.held.wait(), stop)
                log.info("lease.taken", lease=name)
                await _work_while_held(lease, work, stop)
            except Fenced as error:
                log.warning("lease.fenced", lease=name, error=str(error))
                await patience.pause()
            finally:
                leases.give_up(lease)
    except Stopped:
        return


async def _work_while_held(lease: Lease, work: Work, stop: asyncio.Event) -> None:
    ended = asyncio.Event()
    working = asyncio.ensure_future(work(ended))
    endings = {asyncio.create_task(event.wait()) for event in (lease.lost, stop)}
    try:
        await asyncio.wait({working, *endings}, return_when=asyncio.FIRST_COMPLETED)
        ended.set()
        await working
    finally:
        for task in (working, *endings):
            task.cancel()
        await asyncio.gather(working, *endings, return_exceptions=True)
    if lease.lost.is_set():
        log.warning("lease.lost", lease=lease.name)
