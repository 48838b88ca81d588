"""`client.keys` on a real session-api."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.client.conftest import Network

from antiphon.chassis.bus import Bus
from antiphon.client import AsyncAntiphon, AuthenticationError, PermissionDenied
from antiphon.contracts.api_keys import ApiKey, encode_key, key_digest

SECRET = "an-operators-secret"


@pytest.fixture
async def admin(network: Network, bus: Bus) -> AsyncIterator[AsyncAntiphon]:
    """A client with the key of an operator."""
    key = ApiKey(tenant="default", name="operator", scopes=frozenset({"admin"}), operator=True)
    await (await bus.bucket("keys")).put(key_digest(SECRET), encode_key(key))
    async with AsyncAntiphon(network.url, SECRET) as client:
        async with asyncio.timeout(60):
            while not await accepted(client):  # noqa: ASYNC110 - it asks the server
                await asyncio.sleep(0.05)
        yield client


async def accepted(client: AsyncAntiphon) -> bool:
    """Return whether the server knows the key already."""
    try:
        await anext(client.keys.list(limit=1))
    except AuthenticationError:
        return False
    return True


async def test_a_key_is_made_used_rotated_and_revoked(admin: AsyncAntiphon, network: Network) -> None:
    made = await admin.keys.create(
        name="ci", scopes=["sessions:read"], expires_in_seconds=3600, limits={"streams": 3}
    )
    assert made.secret not in repr(made)
    async with AsyncAntiphon(network.url, made.secret) as user:
        assert [session async for session in user.sessions.list()] == []
        with pytest.raises(PermissionDenied):
            await user.sessions.create(flow_id="booking", user_id="ada")

    found = await admin.keys.get(made.id)
    assert (found.limits or {})["streams"] == 3
    assert made.id in [key.id async for key in admin.keys.list(page_size=1)]

    new = await admin.keys.rotate(made.id, overlap_seconds=0)
    assert new.rotated_from == made.id
    assert (await admin.keys.revoke(new.id)).status == "revoked"
    async with AsyncAntiphon(network.url, new.secret) as user:
        with pytest.raises(AuthenticationError):
            await anext(user.sessions.list())

    acts = [act async for act in admin.audit.list(page_size=1)]
    assert [(act.kind, act.target, act.outcome) for act in acts] == [
        ("key.create", made.id, "done"),
        ("key.rotate", made.id, "done"),
        ("key.revoke", new.id, "done"),
    ]
    since = acts[1].at
    assert [act.id async for act in admin.audit.list(kind=["key.rotate"], since=since)] == [acts[1].id]
