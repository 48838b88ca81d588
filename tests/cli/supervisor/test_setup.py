"""The development key: made with every scope, upgraded from an earlier version, never brought back."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.errors import StackError
from antiphon.cli.supervisor.setup import publish_key
from antiphon.contracts.api_keys import ApiKey, Scope, decode_key, encode_key, key_digest

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SECRET = "ak_development-of-this-stack"
DIGEST = key_digest(SECRET)


async def _stored(bus: Bus) -> ApiKey:
    value = await (await bus.bucket("keys")).get(DIGEST)
    assert value is not None
    return decode_key(DIGEST, value)


async def test_the_development_key_has_every_scope_and_is_the_operators(bus: Bus) -> None:
    await publish_key(bus, SECRET, NOW)
    first = await _stored(bus)
    await publish_key(bus, SECRET, NOW)

    assert (first.tenant, first.name, first.prefix) == ("default", "development", "ak_devel")
    assert first.scopes == frozenset(Scope)
    assert first.operator
    assert await _stored(bus) == first


async def test_a_key_of_an_earlier_version_gets_the_new_scopes(bus: Bus) -> None:
    record = {
        "tenant": "default",
        "name": "development",
        "scopes": ["sessions:write", "sessions:read"],
        "created_at": "2026-01-01T00:00:00Z",
    }
    await (await bus.bucket("keys")).put(DIGEST, json.dumps(record).encode())

    await publish_key(bus, SECRET, NOW)

    key = await _stored(bus)
    assert key.scopes == frozenset(Scope)
    assert key.operator
    assert key.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert key.id


async def test_a_revoked_development_key_stays_revoked(bus: Bus) -> None:
    await publish_key(bus, SECRET, NOW)
    revoked = msgspec.structs.replace(await _stored(bus), revoked_at=NOW)
    await (await bus.bucket("keys")).put(DIGEST, encode_key(revoked))

    await publish_key(bus, SECRET, NOW)

    assert (await _stored(bus)).revoked_at == NOW


async def test_a_damaged_record_is_not_made_anew(bus: Bus) -> None:
    bucket = await bus.bucket("keys")
    await bucket.put(DIGEST, b'{"revoked_at": "2026-')

    with pytest.raises(StackError, match="damaged"):
        await publish_key(bus, SECRET, NOW)

    assert await bucket.get(DIGEST) == b'{"revoked_at": "2026-'
