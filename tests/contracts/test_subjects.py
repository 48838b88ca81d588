"""Subjects carry partition, tenant, session and family, and parse back."""

import pytest
from tests.contracts.strategies import SESSION_ID

from antiphon.contracts.subjects import (
    PARTITIONS,
    committed_filter,
    committed_subject,
    event_subject,
    parse_event_subject,
    partition_filter,
    partition_of,
    session_filter,
)


def test_partition_is_stable_and_every_partition_is_used() -> None:
    assert partition_of(SESSION_ID) == 11
    assert {partition_of(f"ses_{n}") for n in range(1000)} == set(range(PARTITIONS))


def test_subject_round_trips() -> None:
    parsed = parse_event_subject(event_subject("default", SESSION_ID, "turn"))

    assert (parsed.partition, parsed.tenant, parsed.session_id, parsed.family) == (
        partition_of(SESSION_ID),
        "default",
        SESSION_ID,
        "turn",
    )


@pytest.mark.parametrize("subject", ["", "sessions.1.t.s", "sessions.x.t.s.turn", "rooms.1.t.s.turn"])
def test_invalid_subject_raises(subject: str) -> None:
    with pytest.raises(ValueError, match="is not sessions"):
        parse_event_subject(subject)


def test_filters_match_their_subjects() -> None:
    subject = event_subject("default", SESSION_ID, "turn")

    assert subject.startswith(session_filter("default", SESSION_ID).removesuffix(">"))
    assert subject.startswith(partition_filter(partition_of(SESSION_ID)).removesuffix(">"))
    assert committed_subject("default", SESSION_ID).startswith(committed_filter(11).removesuffix(">"))
    assert committed_filter() == "committed.>"
