"""Records of API keys: every field survives, earlier records decode, a record without a tenant does not."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from antiphon.contracts.api_keys import (
    KEY_ID_PATTERN,
    ApiKey,
    InvalidKey,
    KeyLimits,
    decode_key,
    encode_key,
    is_key_digest,
    key_digest,
    new_key_id,
    shown_prefix,
)

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
DIGEST = key_digest("secret")


def test_every_field_survives() -> None:
    key = ApiKey(
        tenant="acme",
        name="ci",
        scopes=frozenset({"admin", "sessions:read"}),
        created_at=NOW,
        id=new_key_id(NOW, b"0123456789"),
        prefix="ak_abcde",
        expires_at=NOW,
        revoked_at=NOW,
        rotated_from="key_a",
        replaced_by="key_b",
        operator=True,
        limits=KeyLimits(requests_per_second=5, streams=1),
    )

    assert decode_key(DIGEST, encode_key(key)) == key


def test_a_record_of_an_earlier_version_gets_a_stable_id() -> None:
    record = b'{"tenant":"acme","name":"ci","scopes":["sessions:read"],"created_at":"2026-01-01T00:00:00Z"}'

    key = decode_key(DIGEST, record)

    assert re.fullmatch(KEY_ID_PATTERN, key.id)
    assert key == decode_key(DIGEST, record)
    assert key.id != decode_key(key_digest("other"), record).id
    assert key.usable(NOW)


@pytest.mark.parametrize("tenant", ["*", ">", "a.b", "Acme", "", "a b", "a\n", "x" * 64])
def test_a_record_of_what_is_not_a_tenant_is_no_key(tenant: str) -> None:
    record = msgspec.json.encode({"tenant": tenant, "name": "ci", "scopes": ["sessions:read"]})

    with pytest.raises(InvalidKey):
        decode_key(DIGEST, record)


@pytest.mark.parametrize(
    "record",
    [
        b"not json",
        b"\xff",
        b"[" * 5000,
        b"{}",
        b'{"tenant":"acme","name":"ci","scopes":"admin"}',
        b'{"tenant":"acme","name":"ci","scopes":[],"expires_at":"2026-01-01T00:00:00"}',
    ],
)
def test_a_damaged_record_is_no_key(record: bytes) -> None:
    with pytest.raises(InvalidKey):
        decode_key(DIGEST, record)


def test_a_key_is_usable_until_it_expires_or_is_revoked() -> None:
    key = ApiKey(tenant="acme", name="ci", scopes=frozenset(), expires_at=NOW)

    assert not key.usable(NOW)
    assert key.usable(NOW.replace(year=2025))
    assert not msgspec.structs.replace(key, expires_at=None, revoked_at=NOW).usable(NOW)


def test_ids_and_digests_have_their_form() -> None:
    assert re.fullmatch(KEY_ID_PATTERN, new_key_id(NOW, b"0123456789"))
    assert is_key_digest(DIGEST)
    assert not is_key_digest(f"used.{DIGEST}")
    assert shown_prefix("ak_abcdefghijk") == "ak_abcde"
