"""Changes of API keys in the bucket `keys`; several replicas may make them at the same time."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from antiphon.chassis.audit import Audit
from antiphon.chassis.bus import Bus, BusUnavailable, KeyExists
from antiphon.contracts.api_keys import (
    SECRET_BYTES,
    SECRET_PREFIX,
    USED_PREFIX,
    ApiKey,
    InvalidKey,
    Scope,
    decode_key,
    encode_key,
    key_digest,
    new_key_id,
    shown_prefix,
)
from antiphon.contracts.audit import Act, ActKind, Actor
from antiphon.contracts.ids import DEFAULT_TENANT
from antiphon.contracts.streams import KEYS
from antiphon.session_api.keys.leftovers import Leftovers
from antiphon.session_api.keys.records import KeyRecord, Keys
from antiphon.session_api.keys.tenant_lock import TenantLocked, locked

KEYS_PER_TENANT = 1000
TRIES = 5  # of a change, when another replica changes the same record
SEEN_SECONDS = 2.0  # for this replica to see its own change
SEEN_POLL_SECONDS = 0.005

log = structlog.get_logger(__name__)


class KeyConflict(Exception):
    """The key was changed in a way that rules this change out; the message says which."""


class TooManyKeys(Exception):
    """The tenant has as many usable keys as it may."""


class KeyStore:
    """Makes, rotates and revokes keys, once that is on record. Every method raises BusUnavailable."""

    def __init__(
        self,
        bus: Bus,
        keys: Keys,
        clock: Callable[[], datetime],
        entropy: Callable[[int], bytes] = os.urandom,
        leftovers: Leftovers | None = None,
    ) -> None:
        self._bus = bus
        self.leftovers = leftovers or Leftovers(bus, clock)
        self._keys = keys
        self._clock = clock
        self._entropy = entropy
        self._audit = Audit(bus, clock)
        self._bootstrapped: set[str] = set()  # digests

    async def create(self, wanted: ApiKey, by: Actor) -> tuple[str, ApiKey]:
        """Store a new key with these fields; return its secret, which is nowhere else, and the key.

        Raises TooManyKeys.
        """
        await self._make_room(wanted.tenant)
        secret = _new_secret()
        key = self._new(secret, wanted)
        details = {"scopes": " ".join(sorted(key.scopes))}
        if key.expires_at is not None:
            details["expires_at"] = key.expires_at.isoformat()
        async with self._audit.recorded(Act(ActKind.KEY_CREATE, key.tenant, by, key.id, details)):
            await self._add(secret, key)
        return secret, key

    async def bootstrap(self, secret: str, by: Actor) -> bool:
        """Store the operator's first key, with every scope, unless a record has this secret.

        Returns whether it was stored. The record is never forgotten: a secret that was revoked stays so.
        """
        digest = key_digest(secret)
        self._bootstrapped.add(digest)
        if await (await self._bus.bucket(KEYS.name)).entry(digest) is not None:
            return False
        key = self._new(
            secret, ApiKey(tenant=DEFAULT_TENANT, name="bootstrap", scopes=frozenset(Scope), operator=True)
        )
        try:
            async with self._audit.recorded(Act(ActKind.KEY_BOOTSTRAP, key.tenant, by, key.id)):
                await self._add(secret, key)
        except KeyExists:  # another replica was first
            return False
        return True

    async def revoke(self, digest: str, by: Actor) -> ApiKey:
        """Revoke a key and return it; one that is revoked stays as it is.

        Raises KeyConflict.
        """

        def revoked(key: ApiKey) -> ApiKey:
            return key if key.revoked_at is not None else replace(key, revoked_at=self._clock())

        known = self._keys.get(digest)
        if known is None:
            raise KeyConflict("it no longer exists")
        async with self._audit.recorded(Act(ActKind.KEY_REVOKE, known.tenant, by, known.id), KeyConflict):
            return await self._change(digest, revoked)

    @asynccontextmanager
    async def exclusively(self, tenant: str) -> AsyncIterator[None]:
        """Keep other replicas and requests from changes that depend on the tenant's other keys.

        Raises KeyConflict, when others do that for too long.
        """
        try:
            async with locked(self._bus, self._keys, tenant, self._clock):
                yield
        except TenantLocked as error:
            raise KeyConflict("others are changing keys of the tenant at this moment: try again") from error

    async def rotate(self, record: KeyRecord, overlap: timedelta, by: Actor) -> tuple[str, ApiKey]:
        """Make a key that replaces this one, which expires after the overlap; return its secret, and it.

        Raises KeyConflict, when the key has ended or has been replaced already, TooManyKeys.
        """
        old, secret = record.key, _new_secret()
        await self._make_room(old.tenant)
        new = self._new(
            secret, replace(old, rotated_from=old.id, replaced_by=None, expires_at=self._renewed_expiry(old))
        )
        details = {"replaced_by": new.id, "overlap_seconds": f"{overlap.total_seconds():g}"}
        async with self._audit.recorded(
            Act(ActKind.KEY_ROTATE, old.tenant, by, old.id, details), KeyConflict
        ):
            await self._rotate(secret, record, new, overlap)
        return secret, new

    async def _rotate(self, secret: str, record: KeyRecord, new: ApiKey, overlap: timedelta) -> None:
        digest = key_digest(secret)
        try:
            await self._add(secret, new)
            await self._replace(record.digest, new, overlap)
        except KeyConflict:
            await self._withdraw(digest, record.digest)
            raise
        except BaseException:  # the broker may still have made the change
            self.leftovers.rotation(digest, record.digest)
            raise

    async def _replace(self, digest: str, new: ApiKey, overlap: timedelta) -> None:
        """Let a key name its successor, and expire after the overlap."""

        def replaced(key: ApiKey) -> ApiKey:
            if key.replaced_by == new.id:
                return key  # by an attempt whose answer was lost
            now = self._clock()
            if key.replaced_by is not None and self._keys.with_id(key.replaced_by) is not None:
                raise KeyConflict(f"it was replaced by {key.replaced_by}: rotate that one")
            if not key.usable(now):
                raise KeyConflict("it is revoked or has expired: create a new key")
            ends = now + overlap
            expires_at = ends if key.expires_at is None else min(ends, key.expires_at)
            return replace(key, replaced_by=new.id, expires_at=expires_at)

        try:
            await self._change(digest, replaced)
        except BusUnavailable:
            await self._require_named(digest, new)

    async def _require_named(self, digest: str, new: ApiKey) -> None:
        """Return if a key names this successor, after a change whose answer was lost.

        Raises BusUnavailable if it does not, or cannot be read.
        """
        entry = await (await self._bus.bucket(KEYS.name)).entry(digest)
        try:
            if entry is not None and decode_key(digest, entry.value).replaced_by == new.id:
                await self._seen(digest, entry.value)
                return
        except InvalidKey as error:
            raise KeyConflict(f"its record is damaged: {error}") from error
        raise BusUnavailable("the key was not replaced")

    async def _withdraw(self, digest: str, old: str) -> None:
        """Remove the new key of a rotation that failed."""
        try:
            await self._remove(digest)
        except BusUnavailable:
            self.leftovers.rotation(digest, old)

    def _renewed_expiry(self, old: ApiKey) -> datetime | None:
        """Return when the successor of a key expires: it lives as long as the key was made for."""
        if old.expires_at is None or old.created_at is None:
            return old.expires_at
        return self._clock() + (old.expires_at - old.created_at)

    def _new(self, secret: str, wanted: ApiKey) -> ApiKey:
        now = self._clock()
        return replace(
            wanted, id=new_key_id(now, self._entropy(10)), prefix=shown_prefix(secret), created_at=now
        )

    async def _add(self, secret: str, key: ApiKey) -> None:
        digest, value = key_digest(secret), encode_key(key)
        bucket = await self._bus.bucket(KEYS.name)
        await bucket.create(digest, value)
        await self._seen(digest, value)

    async def _change(self, digest: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        bucket = await self._bus.bucket(KEYS.name)
        for _ in range(TRIES):
            entry = await bucket.entry(digest)
            if entry is None:
                raise KeyConflict("it no longer exists")
            try:
                before = decode_key(digest, entry.value)
            except InvalidKey as error:
                raise KeyConflict(f"its record is damaged: {error}") from error
            if before.replaced_by is not None:  # the watch has its successor, if there is one, before it
                await self._seen(digest, entry.value)
            after = change(before)
            value = encode_key(after)
            if after == before or await bucket.update(digest, value, entry.revision):
                await self._seen(digest, entry.value if after == before else value)
                return after
        raise KeyConflict("others are changing it at this moment: try again")

    async def _make_room(self, tenant: str) -> None:
        """Forget the tenant's key that ended first, when it has too many.

        Those of operators are kept, and do not count once they have ended: without its record, the secret
        of a setting would be stored again at the next start, also one that was revoked.
        """
        now = self._clock()
        found = [
            record
            for record in self._keys.all()
            if record.key.tenant == tenant and (record.key.usable(now) or not self._is_kept(record))
        ]
        if len(found) < KEYS_PER_TENANT:
            return
        ended = [record for record in found if not record.key.usable(now)]
        if not ended:
            raise TooManyKeys(f"the tenant has {len(found)} keys, and may have {KEYS_PER_TENANT}")
        oldest = min(ended, key=lambda record: record.key.ends_at or now)
        await self._remove(oldest.digest)

    def _is_kept(self, record: KeyRecord) -> bool:
        return record.key.operator or record.digest in self._bootstrapped

    async def _remove(self, digest: str) -> None:
        bucket = await self._bus.bucket(KEYS.name)
        await bucket.delete(digest)
        if self._keys.used_at(digest) is not None:
            await bucket.delete(USED_PREFIX + digest)
        self.leftovers.removed()

    async def _seen(self, digest: str, value: bytes) -> None:
        """Wait until this replica has its own change, so that the next request to it meets that."""
        try:
            async with asyncio.timeout(SEEN_SECONDS):
                while not self._keys.holds(digest, value):  # noqa: ASYNC110 - the watch has no event
                    await asyncio.sleep(SEEN_POLL_SECONDS)
        except TimeoutError:
            log.warning("keys.change_not_seen", key_sha256=digest)


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
