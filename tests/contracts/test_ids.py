"""Ids are made again by a retry, sort by time, and never collide by accident."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.contracts.envelope import SessionId
from antiphon.contracts.ids import agent_event_id, new_session_id, session_id_for_key

NOW = datetime(2026, 11, 21, tzinfo=UTC)
is_session_id = msgspec.json.Decoder(SessionId)


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
)
def test_every_session_id_has_the_form_that_the_envelope_demands(entropy: bytes, now: datetime) -> None:
    made = new_session_id(now, entropy)

    assert is_session_id.decode(msgspec.json.encode(made)) == made
    assert len(made) == 30


def test_session_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    highest, lowest = b"\xff" * 10, b"\0" * 10

    assert new_session_id(NOW, highest) < new_session_id(NOW + timedelta(milliseconds=1), lowest)


def test_the_number_inside_is_a_uuid_of_version_7() -> None:
    number = 0
    for letter in new_session_id(NOW, bytes(range(10)))[4:]:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(letter)

    assert number >> 80 == int(NOW.timestamp() * 1000)
    assert (number >> 76) & 15 == 7
    assert (number >> 62) & 3 == 2


def test_a_session_id_takes_exactly_ten_bytes_of_entropy() -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        new_session_id(NOW, b"short")


def test_a_key_stands_for_one_session_of_its_tenant() -> None:
    assert session_id_for_key("a", "k") == session_id_for_key("a", "k")
    assert session_id_for_key("a", "k") != session_id_for_key("b", "k")
    assert session_id_for_key("a", "bk") != session_id_for_key("ab", "k")


def test_an_agent_event_is_named_by_session_job_and_number() -> None:
    assert agent_event_id("ses_1", "AJ_1", 7) == "ses_1:agent:AJ_1:7"
