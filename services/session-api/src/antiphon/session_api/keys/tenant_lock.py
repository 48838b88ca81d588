"""One change at a time of a tenant's keys, for changes that depend on its other keys."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from secrets import token_hex

import structlog

from antiphon.chassis.bus import Bucket, Bus, BusUnavailable, Entry, KeyExists
from antiphon.contracts.streams import KEYS
from antiphon.session_api.keys.records import Keys

PREFIX = "lock."  # of the entries of the bucket, one per tenant
LEASE = timedelta(seconds=10)  # then it counts as left by a replica that crashed
WAIT_SECONDS = 4.0
POLL_SECONDS = 0.02
FREE = b"free"

log = structlog.get_logger(__name__)


class TenantLocked(Exception):
    """Others have held the lock of the tenant for too long."""


@asynccontextmanager
async def locked(bus: Bus, keys: Keys, tenant: str, clock: Callable[[], datetime]) -> AsyncIterator[None]:
    """Hold the tenant's lock over all replicas; inside, `keys` has every change made under it before.

    Raises TenantLocked, BusUnavailable.
    """
    bucket, name = await bus.bucket(KEYS.name), PREFIX + tenant
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            value = await _acquire(bucket, name, clock)
            # the watch is in the order of the bucket: it has the changes of those who held the lock before
            while not keys.holds(name, value):  # noqa: ASYNC110 - the watch has no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        raise TenantLocked(f"the keys of {tenant} are being changed") from error
    try:
        async with asyncio.timeout(LEASE.total_seconds()):
            yield
    except TimeoutError as error:
        raise TenantLocked(f"the change of a key of {tenant} took too long") from error
    except Exception:
        await _release(bucket, name, value)
        raise
    await _release(bucket, name, value)  # not when it is cancelled: then the lease ends


async def _acquire(bucket: Bucket, name: str, clock: Callable[[], datetime]) -> bytes:
    while True:
        entry = await bucket.entry(name)
        now = clock()
        if entry is None or _ended(entry.value, now):
            value = f"{(now + LEASE).isoformat()} {token_hex(8)}".encode()
            if await _swap(bucket, name, entry, value):
                return value
        await asyncio.sleep(POLL_SECONDS)


async def _swap(bucket: Bucket, name: str, entry: Entry | None, value: bytes) -> bool:
    if entry is not None:
        return await bucket.update(name, value, entry.revision)
    try:
        await bucket.create(name, value)
    except KeyExists:
        return False
    return True


async def _release(bucket: Bucket, name: str, value: bytes) -> None:
    try:
        entry = await bucket.entry(name)
        if entry is not None and entry.value == value:
            await bucket.update(name, FREE, entry.revision)
    except BusUnavailable as error:
        log.warning("keys.lock_not_released", lock=name, error=str(error))  # its lease ends


def _ended(value: bytes, now: datetime) -> bool:
    try:
        return datetime.fromisoformat(value.decode().partition(" ")[0]) <= now
    except (ValueError, TypeError):  # free, or damaged
        return True
