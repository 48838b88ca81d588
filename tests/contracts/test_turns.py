"""The fold of turns gives the same rows for any order of the events, and again for events that it has."""

from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace
from tests.contracts.strategies import events, history

from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.agent import AgentHandedOff
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.contracts.registry import open_event
from antiphon.contracts.turns import TURN_TYPES, TurnKey, turn_after, turn_key, unfinished
from antiphon.contracts.views import INDEXED_LENGTH, TurnView

STARTED = TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", language="en")
SAVED = TurnSaved(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", assistant_text="Good day.")
NOTE = replace(SAVED, assistant_text="Good", recovered=True)

FEW_TURNS = st.lists(
    st.builds(
        replace,
        events(TurnStarted, TurnSaved),
        turn=st.integers(1, 2),
        epoch=st.sampled_from(["AJ_1", "AJ_2"]),
    ),
    max_size=8,
).map(history)


def rows_of(envelopes: Iterable[Envelope]) -> dict[TurnKey, TurnView]:
    rows: dict[TurnKey, TurnView] = {}
    for envelope in envelopes:
        event = open_event(envelope)
        key = turn_key(event, envelope)
        if key is not None:
            row = turn_after(rows.get(key), event, envelope)
            assert row is not None
            rows[key] = row
    return rows


def only(rows: dict[TurnKey, TurnView]) -> TurnView:
    [row] = rows.values()
    return row


def test_a_saved_turn_has_all_that_its_event_says() -> None:
    body = replace(
        SAVED,
        interrupted=True,
        recovered=True,
        language="en",
        confidence=0.5,
        tool_call_ids=["call_1"],
        metrics={"e2e_latency": 0.25},
        assistant_text_generated="Good day to you.",
    )
    [stored] = history([body])

    assert rows_of([stored]) == {
        (stored.subject, "AJ_1", 1): TurnView(
            session_id=stored.subject,
            epoch="AJ_1",
            turn=1,
            tenant="default",
            agent_id="host",
            state="saved",
            interrupted=True,
            recovered=True,
            occurred_at=stored.time,
            sequence=1,
            first_sequence=1,
            tool_call_ids=["call_1"],
            metrics={"e2e_latency": 0.25},
            user_text="hello",
            assistant_text="Good day.",
            assistant_text_generated="Good day to you.",
            language="en",
            confidence=0.5,
        )
    }


def test_a_turn_keeps_its_start_and_its_first_sequence() -> None:
    started, saved = history([STARTED, SAVED])

    row = only(rows_of([started, saved]))

    assert (row.state, row.language, row.sequence, row.first_sequence) == ("saved", None, 2, 1)
    assert (row.started_at, row.occurred_at) == (started.time, saved.time)


def test_a_recovered_note_does_not_replace_the_turn_that_its_agent_saved() -> None:
    assert only(rows_of(history([SAVED, NOTE]))).assistant_text == "Good day."
    assert only(rows_of(history([NOTE, SAVED]))).assistant_text == "Good day."
    assert only(rows_of(history([NOTE, STARTED]))).recovered


def test_of_two_events_of_one_kind_the_later_is_shown() -> None:
    again = replace(SAVED, user_text="hello there")

    assert only(rows_of(history([SAVED, again]))).user_text == "hello there"
    assert only(rows_of(reversed(history([SAVED, again])))).user_text == "hello there"


@given(FEW_TURNS, st.data())
def test_the_order_of_the_events_does_not_matter(envelopes: list[Envelope], data: st.DataObject) -> None:
    expected = rows_of(envelopes)

    assert rows_of(data.draw(st.permutations(envelopes))) == expected
    assert rows_of([*envelopes, *envelopes]) == expected


@given(FEW_TURNS)
def test_an_event_that_changes_nothing_returns_the_same_row(envelopes: list[Envelope]) -> None:
    rows = rows_of(envelopes)

    for envelope in envelopes:
        event = open_event(envelope)
        row = rows[turn_key(event, envelope) or TurnKey("", "", 0)]
        assert turn_after(row, event, envelope) is row


@given(FEW_TURNS)
def test_rows_are_in_the_order_of_their_first_events(envelopes: list[Envelope]) -> None:
    rows = rows_of(envelopes)

    assert [row.first_sequence for row in rows.values()] == sorted(
        {row.first_sequence for row in rows.values()}
    )


def test_other_events_have_no_turn() -> None:
    [stored] = history([AgentHandedOff(from_agent="host", to_agent="manager")])
    event = open_event(stored)

    assert turn_key(event, stored) is None
    assert turn_after(None, event, stored) is None
    assert stored.type not in TURN_TYPES


def test_a_row_has_only_what_the_view_can_store() -> None:
    body = replace(SAVED, epoch="e\0" + "x" * 300, agent_id="a\0", user_text="u\0", assistant_text=None)
    [stored] = history([body])
    early = replace(stored, time=datetime(1, 5, 1, tzinfo=UTC), sequence=UNSET)

    row = only(rows_of([early]))

    assert (row.epoch[:2], len(row.epoch)) == ("e\N{REPLACEMENT CHARACTER}", INDEXED_LENGTH)
    assert (row.agent_id, row.user_text) == ("a\N{REPLACEMENT CHARACTER}", "u\N{REPLACEMENT CHARACTER}")
    assert (row.occurred_at, row.sequence) == (datetime(2, 1, 1, tzinfo=UTC), 0)


def test_an_open_turn_is_unfinished_once_its_session_has_ended() -> None:
    opened, saved = history([STARTED]), history([SAVED])

    assert unfinished(only(rows_of(opened))).state == "unfinished"
    assert unfinished(only(rows_of(saved))).state == "saved"
