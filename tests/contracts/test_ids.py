"""Ids are deterministic, sort by time and do not collide."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.contracts.ids import (
    SessionId,
    adopted_session_id,
    agent_event_id,
    agent_note_id,
    is_session_id,
    named_session_id,
    new_session_id,
    session_id_for_key,
)

KEY = re.compile(r"[\x21-\x7e]{1,255}")  # of session-api
NOW = datetime(2026, 11, 21, tzinfo=UTC)
_decoder = msgspec.json.Decoder(SessionId)


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
)
def test_session_id_is_valid_in_an_envelope(entropy: bytes, now: datetime) -> None:
    made = new_session_id(now, entropy)

    assert _decoder.decode(msgspec.json.encode(made)) == made
    assert is_session_id(made)
    assert len(made) == 30


def test_session_ids_sort_by_millisecond() -> None:
    highest, lowest = b"\xff" * 10, b"\0" * 10

    assert new_session_id(NOW, highest) < new_session_id(NOW + timedelta(milliseconds=1), lowest)


def test_session_id_encodes_a_uuid_version_7() -> None:
    number = 0
    for letter in new_session_id(NOW, bytes(range(10)))[4:]:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(letter)

    assert number >> 80 == int(NOW.timestamp() * 1000)
    assert (number >> 76) & 15 == 7
    assert (number >> 62) & 3 == 2


def test_wrong_entropy_length_raises() -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        new_session_id(NOW, b"short")


SECRET = b"s" * 32


def test_idempotency_key_gives_one_session_id_per_tenant_and_deployment() -> None:
    assert session_id_for_key(SECRET, "a", "k") == session_id_for_key(SECRET, "a", "k")
    assert session_id_for_key(SECRET, "a", "k") != session_id_for_key(SECRET, "b", "k")
    assert session_id_for_key(SECRET, "a", "bk") != session_id_for_key(SECRET, "ab", "k")
    assert session_id_for_key(SECRET, "a", "k") != session_id_for_key(b"t" * 32, "a", "k")
    assert session_id_for_key(SECRET, "a", "k") != named_session_id("a", "k")


def test_adopted_ids_differ_by_tenant_room_and_call_and_from_those_of_names() -> None:
    ids = [adopted_session_id(tenant, sid, n) for tenant in "ab" for sid in ("RM_1", "RM_2") for n in (1, 2)]
    names = [named_session_id("a", name) for name in ("room:RM_1", "room:RM_1:2", "call:2:room:RM_1")]

    assert len({*ids, *names}) == len(ids) + len(names)


def test_agent_event_id_has_session_job_and_number() -> None:
    assert agent_event_id("ses_1", "AJ_1", 7) == "ses_1:agent:AJ_1:7"


def test_note_id_has_session_job_and_key() -> None:
    assert agent_note_id("ses_1", "AJ_1", "turn:AJ_1:3") == "ses_1:agent:AJ_1:note:turn:AJ_1:3"


@pytest.mark.parametrize("key", ["k" * 101, "two\r\nlines", "ключ", "\ud800"])
def test_note_id_has_the_hash_of_an_unusual_key(key: str) -> None:
    made = agent_note_id("ses_1", "AJ_1", key)

    assert made == agent_note_id("ses_1", "AJ_1", key) != agent_note_id("ses_1", "AJ_1", f"{key}2")
    assert made.isascii()
    assert made.isprintable()
    assert len(made) < 100


@pytest.mark.parametrize(
    "text", ["", "ses_*", "ses_1.>", f"ses_{'0' * 25}", f"ses_{'0' * 26}\n", f"ses_{'U' * 26}"]
)
def test_other_text_is_not_a_session_id(text: str) -> None:
    assert not is_session_id(text)
