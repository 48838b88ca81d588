"""Keys that are never forgotten, and rotations whose answer is lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from antiphon.chassis.bus import Bucket, Bus, BusUnavailable
from antiphon.contracts.api_keys import ApiKey, key_digest
from antiphon.contracts.audit import Actor
from antiphon.session_api.keys import store as store_module
from antiphon.session_api.keys.leftovers import Leftovers
from antiphon.session_api.keys.records import KeyRecord, Keys
from antiphon.session_api.keys.store import KeyConflict, KeyStore

HOUR = timedelta(hours=1)
BY = Actor("service:test")
WANTED = ApiKey(tenant="shop", name="ci", scopes=frozenset({"sessions:read"}))


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def keys(bus: Bus) -> AsyncIterator[Keys]:
    """The watched bucket."""
    watched = await (await bus.bucket("keys")).watch()
    yield Keys(watched)
    await watched.close()


@pytest.fixture
async def store(bus: Bus, keys: Keys) -> AsyncIterator[KeyStore]:
    """A store that cleans up soon."""
    store = KeyStore(bus, keys, now, leftovers=Leftovers(bus, now, settle_seconds=0.1, marker_seconds=0.2))
    yield store
    await store.leftovers.close()


@pytest.fixture
async def old(store: KeyStore) -> KeyRecord:
    """A key."""
    secret, key = await store.create(WANTED, BY)
    return KeyRecord(key_digest(secret), key)


def update_that(monkeypatch: pytest.MonkeyPatch, *, writes: bool, hangs: bool = False) -> asyncio.Event:
    """Let the answer to an update of a key be lost, with or without its effect, once."""
    reached, update = asyncio.Event(), Bucket.update

    async def losing(bucket: Bucket, key: str, value: bytes, revision: int, **more: float) -> bool:
        if bucket._stream != "KV_keys":  # the record of the act
            return await update(bucket, key, value, revision, **more)
        monkeypatch.setattr(Bucket, "update", update)
        if writes:
            await update(bucket, key, value, revision)
        reached.set()
        if hangs:
            await asyncio.Event().wait()
        raise BusUnavailable("no answer")

    monkeypatch.setattr(Bucket, "update", losing)
    return reached


def of_shop(keys: Keys) -> list[ApiKey]:
    return [record.key for record in keys.all() if record.key.tenant == "shop"]


async def test_a_rotation_whose_answer_is_lost_succeeds(
    store: KeyStore, keys: Keys, old: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_that(monkeypatch, writes=True)

    secret, new = await store.rotate(old, HOUR, BY)

    assert keys.usable(key_digest(secret))
    assert [key.replaced_by for key in of_shop(keys) if key.id == old.key.id] == [new.id]


async def test_a_rotation_that_did_not_happen_leaves_no_new_key(
    store: KeyStore, keys: Keys, old: KeyRecord, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_that(monkeypatch, writes=False)

    with pytest.raises(BusUnavailable):
        await store.rotate(old, HOUR, BY)

    async def alone() -> bool:
        return [key.id for key in of_shop(keys)] == [old.key.id]

    await until(alone)
    assert (await store.rotate(old, HOUR, BY))[1].rotated_from == old.key.id


async def test_a_cancelled_rotation_ends_at_once_and_keeps_the_key_that_is_named(
    store: KeyStore, keys: Keys, old: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = update_that(monkeypatch, writes=True, hangs=True)
    rotating = asyncio.create_task(store.rotate(old, HOUR, BY))
    await reached.wait()

    async def forbidden(*_: Any) -> None:
        raise AssertionError("the broker is asked while the request is cancelled")

    with monkeypatch.context() as during:
        during.setattr(Bucket, "delete", forbidden)
        rotating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rotating

    await asyncio.sleep(0.5)
    [new] = [key for key in of_shop(keys) if key.rotated_from == old.key.id]
    assert keys.with_id(old.key.id).key.replaced_by == new.id  # type: ignore[union-attr]
    with pytest.raises(KeyConflict, match=new.id):
        await store.rotate(old, HOUR, BY)


async def test_a_key_whose_successor_does_not_exist_is_rotated(
    store: KeyStore, keys: Keys, old: KeyRecord, bus: Bus
) -> None:
    secret, lost = await store.rotate(old, HOUR, BY)
    await (await bus.bucket("keys")).delete(key_digest(secret))

    _, new = await store.rotate(old, HOUR, BY)

    assert new.id != lost.id
    assert keys.with_id(old.key.id).key.replaced_by == new.id  # type: ignore[union-attr]


async def test_removed_keys_leave_nothing_in_the_bucket(store: KeyStore, bus: Bus, until: Any) -> None:
    for _ in range(3):
        secret, _ = await store.create(WANTED, BY)
        await store._remove(key_digest(secret))

    async def empty() -> bool:
        info = await bus.connection.api("STREAM.INFO.KV_keys")
        return bool(info["state"]["messages"] == 0)

    await until(empty)


SECRET = "b" * 32


async def make_and_revoke(store: KeyStore, number: int) -> None:
    for _ in range(number):
        secret, _ = await store.create(structs.replace(WANTED, tenant="default"), BY)
        await store.revoke(key_digest(secret), BY)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tenant have three keys."""
    monkeypatch.setattr(store_module, "KEYS_PER_TENANT", 3)


@pytest.mark.usefixtures("few")
async def test_a_revoked_bootstrap_key_is_never_forgotten(store: KeyStore, keys: Keys, bus: Bus) -> None:
    assert await store.bootstrap(SECRET, BY)
    await store.revoke(key_digest(SECRET), BY)

    await make_and_revoke(store, 5)

    assert not await KeyStore(bus, keys, now).bootstrap(SECRET, BY)  # as the next start does
    assert not keys.usable(key_digest(SECRET))


@pytest.mark.usefixtures("few")
async def test_a_rotated_bootstrap_key_is_never_forgotten(store: KeyStore, keys: Keys, bus: Bus) -> None:
    await store.bootstrap(SECRET, BY)
    record = keys.find(SECRET)
    assert record is not None
    await store.rotate(record, timedelta(0), BY)

    await make_and_revoke(store, 5)

    assert not await KeyStore(bus, keys, now).bootstrap(SECRET, BY)
    assert not keys.usable(key_digest(SECRET))


@pytest.mark.usefixtures("few")
async def test_a_key_that_became_the_bootstrap_key_is_never_forgotten(store: KeyStore, keys: Keys) -> None:
    secret, _ = await store.create(structs.replace(WANTED, tenant="default"), BY)
    assert not await store.bootstrap(secret, BY)
    await store.revoke(key_digest(secret), BY)

    await make_and_revoke(store, 5)

    assert not await store.bootstrap(secret, BY)
    assert not keys.usable(key_digest(secret))
