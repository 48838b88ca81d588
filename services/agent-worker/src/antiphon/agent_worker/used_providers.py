"""The providers that published flows use: what a worker loads before it has a call."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

import msgspec
import structlog

from antiphon.agent_worker.flow import Flow, InvalidFlow
from antiphon.agent_worker.flow.load import parse_flow, read_document
from antiphon.agent_worker.providers.loaded import OFFLINE_PROVIDERS, Named, providers_of
from antiphon.chassis.bus import Bucket
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

FLOWS: Final = "flows"  # the bucket, of {tenant}.{flow id}.{revision}
MOST_FLOWS: Final = 500  # that are read at the start of a worker
MOST_WAITING: Final = 16  # revisions that are published faster than they are read; half a MiB each, at most


class _Source(msgspec.Struct):
    source: str


async def used_providers(link: BusLink) -> frozenset[Named]:
    """Return the providers of the newest revision of every flow; without flows, the offline ones.

    `LaterProviders` finds those of later revisions. Raises BusError.
    """
    bucket = await (await link.bus()).bucket(FLOWS)
    newest: dict[str, int] = {}
    for key in await bucket.keys():
        flow, _, number = key.rpartition(".")
        if number.isdigit():
            newest[flow] = max(int(number), newest.get(flow, 0))
    if len(newest) > MOST_FLOWS:
        log.warning("worker.many_flows", flows=len(newest), read=MOST_FLOWS)
    found = [await _flow(bucket, f"{flow}.{number}") for flow, number in list(newest.items())[:MOST_FLOWS]]
    flows = [flow for flow in found if flow is not None]
    return providers_of(flows) if flows else OFFLINE_PROVIDERS


class Used(Protocol):
    """What loads the providers of flows."""

    providers: frozenset[Named]


class LaterProviders:
    """Adds the providers of revisions that are published while the worker runs, within milliseconds.

    A process that starts later loads them before its call; one that waits for a call already, during it.
    """

    def __init__(self, used: Used) -> None:
        self._used = used
        self._known: set[int] = set()  # hashes of the revisions, which a watch that is resumed reads again
        self._watching = False
        self._new: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)

    async def follow(self, link: BusLink) -> None:
        """Watch the published flows until cancelled. Raises BusError."""
        bucket = await (await link.bus()).bucket(FLOWS)
        watched = await bucket.watch(keep=self._note)
        try:
            self._watching = True
            self._used.providers |= await used_providers(link)  # published before the watch had begun
            while True:
                await self._add(await self._new.get())
        finally:
            await watched.close()

    def _note(self, stored: bytes) -> bytes:
        revision = hash(stored)
        if revision not in self._known:
            self._known.add(revision)
            if self._watching:
                with suppress(asyncio.QueueFull):  # the first call of each process loads what it needs
                    self._new.put_nowait(stored)
        return b""

    async def _add(self, stored: bytes) -> None:
        # in a thread: the main process answers LiveKit meanwhile
        flow = await asyncio.to_thread(_read, stored, "a new revision")
        added = (providers_of([flow]) if flow is not None else frozenset()) - self._used.providers
        if added:
            self._used.providers |= added
            log.info("worker.providers_added", added=[" ".join(named) for named in sorted(added)])


async def _flow(bucket: Bucket, key: str) -> Flow | None:
    stored = await bucket.get(key)
    return None if stored is None else _read(stored, key)


def _read(stored: bytes, key: str) -> Flow | None:
    try:
        source = msgspec.json.decode(stored, type=_Source).source
        return parse_flow(read_document(source, name=key))
    except (msgspec.DecodeError, InvalidFlow) as error:
        log.warning("worker.unreadable_flow", flow=key, reason=str(error))
        return None
