"""API keys are found by their hash, and a record that cannot be read opens nothing."""

import hashlib

from antiphon.session_api.keys import Keys


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_a_key_is_found_by_its_hash() -> None:
    record = b'{"tenant":"acme","name":"ci","scopes":["sessions:read"],"created_at":"2026-01-01T00:00:00Z"}'
    key = Keys({_hash("secret"): record}).find("secret")

    assert key is not None
    assert (key.tenant, key.actor, key.scopes) == ("acme", "key:ci", frozenset({"sessions:read"}))


def test_the_hash_itself_opens_nothing() -> None:
    record = b'{"tenant":"acme","name":"ci","scopes":[]}'

    assert Keys({_hash("secret"): record}).find(_hash("secret")) is None


def test_a_record_that_cannot_be_read_opens_nothing() -> None:
    assert Keys({_hash("secret"): b"not json"}).find("secret") is None
