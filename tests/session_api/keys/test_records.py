"""Keys in memory: found by hash, decoded once, never with a damaged record or without a tenant."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from antiphon.contracts.api_keys import key_digest
from antiphon.session_api.keys import records
from antiphon.session_api.keys.records import Keys

RECORD = b'{"tenant":"acme","name":"ci","scopes":["sessions:read"],"created_at":"2026-01-01T00:00:00Z"}'
DIGEST = key_digest("secret")


def test_key_is_found_by_its_hash() -> None:
    found = Keys({DIGEST: RECORD}).find("secret")

    assert found is not None
    assert found.digest == DIGEST
    assert (found.key.tenant, found.key.actor) == ("acme", "key:ci")
    assert found.key.scopes == {"sessions:read"}


def test_hash_is_not_a_key() -> None:
    assert Keys({DIGEST: RECORD}).find(DIGEST) is None


@pytest.mark.parametrize("tenant", ["*", ">", "Acme", "a.b"])
def test_record_of_what_is_not_a_tenant_opens_nothing(tenant: str) -> None:
    keys = Keys({DIGEST: RECORD.replace(b"acme", tenant.encode())})

    assert keys.find("secret") is None
    assert list(keys.all()) == []


def test_damaged_record_is_logged_once_for_each_value() -> None:
    bucket = {DIGEST: b"not json"}
    keys = Keys(bucket)
    with capture_logs() as lines:
        for _ in range(3):
            assert keys.find("secret") is None
        bucket[DIGEST] = bytes(bytearray(b"not json"))  # read again, after a loss of the watch
        assert keys.find("secret") is None
        bucket[DIGEST] = b"not json either"
        assert keys.find("secret") is None

    assert [line["event"] for line in lines] == ["keys.malformed", "keys.malformed"]
    assert "secret" not in str(lines)


def test_a_change_applies_to_the_next_request() -> None:
    bucket = {DIGEST: RECORD}
    keys = Keys(bucket)
    assert keys.usable(DIGEST)

    bucket[DIGEST] = RECORD.replace(b"}", b',"revoked_at":"2026-01-02T00:00:00Z"}')
    assert not keys.usable(DIGEST)

    del bucket[DIGEST]
    assert keys.find("secret") is None


def test_a_key_expires_while_it_is_cached() -> None:
    record = RECORD.replace(b"}", b',"expires_at":"2026-01-02T00:00:00Z"}')
    times = [datetime(2026, 1, 1, 23, 59, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]
    keys = Keys({DIGEST: record}, lambda: times.pop(0))

    assert keys.usable(DIGEST)
    assert not keys.usable(DIGEST)


def test_decoded_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CACHED", 8)
    keys = Keys({key_digest(str(number)): RECORD for number in range(50)})

    assert all(keys.find(str(number)) for number in range(50))
    assert len(keys._decoded) <= 8


def test_times_of_use_are_no_keys() -> None:
    keys = Keys({DIGEST: RECORD, f"used.{DIGEST}": b"2026-01-02T00:00:00+00:00", "used.x": b"nonsense"})

    assert [record.digest for record in keys.all()] == [DIGEST]
    assert keys.used_at(DIGEST) == datetime(2026, 1, 2, tzinfo=UTC)
    assert keys.used_at("x") is None
