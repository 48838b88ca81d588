"""The turns view has one row per turn of an agent, open from its start and then as it was saved."""

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon.chassis.database import Database
from antiphon.contracts import upcasters
from antiphon.contracts.envelope import Envelope, committed
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.persistence.projection.batch import Advance, apply
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projections.turns import TURNS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View


async def test_each_turn_is_one_row(view: "View", new_session: "NewSession") -> None:
    session = new_session("one row")
    saved = session.seal(
        TurnSaved(
            turn=2,
            epoch="AJ_1",
            agent_id="manager",
            user_text="nul \0 inside",
            assistant_text="With plea",
            assistant_text_generated="With pleasure.",
            interrupted=True,
            recovered=True,
            language="en",
            confidence=0.5,
            tool_call_ids=["call_1", "call_2"],
            metrics={"e2e_latency": 0.25},
        )
    )
    await view(TURNS).given([session.requested(), session.turn(1), saved])

    assert [row["turn"] for row in await view.rows("turns", order="turn")] == [1, 2]
    assert (await view.rows("turns", order="turn"))[1] == {
        "session_id": session.session_id,
        "epoch": "AJ_1",
        "turn": 2,
        "state": "saved",
        "started_at": None,
        "tenant": "default",
        "agent_id": "manager",
        "interrupted": True,
        "recovered": True,
        "occurred_at": saved.time,
        "sequence": 3,
        "first_sequence": 3,
        "tool_call_ids": '["call_1","call_2"]',
        "metrics": '{"e2e_latency":0.25}',
        "user_text": "nul \N{REPLACEMENT CHARACTER} inside",
        "assistant_text": "With plea",
        "assistant_text_generated": "With pleasure.",
        "language": "en",
        "confidence": 0.5,
    }


async def test_a_turn_without_user_speech_has_no_user_text(view: "View", new_session: "NewSession") -> None:
    session = new_session("unasked")
    await view(TURNS).given([session.seal(TurnSaved(turn=1, agent_id="host", assistant_text="Still there?"))])

    [row] = await view.rows("turns")
    assert (row["user_text"], row["assistant_text"]) == (None, "Still there?")


async def test_the_same_events_again_change_nothing(view: "View", new_session: "NewSession") -> None:
    log = await view(TURNS).given(new_session("twice").whole_call())
    before = await view.rows("turns")

    for tail in (log, log[5:], log[:6]):
        await view(TURNS).again(tail)
    assert await view.rows("turns") == before


async def test_a_turn_that_is_saved_again_has_the_values_of_the_later_event(
    view: "View", new_session: "NewSession"
) -> None:
    session = new_session("resaved")
    first, second = session.turn(1, "heard in part"), session.turn(1, "heard in full")
    log = await view(TURNS).given([first, second])
    assert [row["user_text"] for row in await view.rows("turns")] == ["heard in full"]

    await view(TURNS).again(log[:1])
    assert [row["user_text"] for row in await view.rows("turns")] == ["heard in full"]


async def test_interleaved_sessions_do_not_affect_each_other(view: "View", new_session: "NewSession") -> None:
    calls = [new_session(f"shuffled {n}").whole_call(turns=n + 1) for n in range(4)]
    await view(TURNS).given(view.shuffled(calls))

    counted = [row["session_id"] for row in await view.rows("turns")]
    assert sorted(counted.count(session_id) for session_id in set(counted)) == [1, 2, 3, 4]


async def test_other_events_write_no_row(view: "View", new_session: "NewSession") -> None:
    session = new_session("other")
    await view(TURNS).given([session.requested()])
    assert await view.rows("turns") == []


STARTED = TurnStarted(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", language="en")
SAVED = TurnSaved(turn=1, epoch="AJ_1", agent_id="host", user_text="hello", assistant_text="Good day.")


async def test_a_started_turn_is_open_until_it_is_saved(view: "View", new_session: "NewSession") -> None:
    session = new_session("open")
    started, saved = session.seal(STARTED), session.seal(SAVED)
    await view(TURNS).given([started])

    [row] = await view.rows("turns")
    assert (row["state"], row["user_text"], row["agent_id"], row["language"]) == (
        "open",
        "hello",
        "host",
        "en",
    )
    assert (row["assistant_text"], row["recovered"], row["interrupted"]) == (None, False, False)
    assert row["started_at"] == row["occurred_at"] == started.time

    await view(TURNS).given([saved])
    [row] = await view.rows("turns")
    assert (row["state"], row["assistant_text"], row["language"]) == ("saved", "Good day.", None)
    assert (row["started_at"], row["occurred_at"]) == (started.time, saved.time)
    assert (row["first_sequence"], row["sequence"]) == (1, 2)


@pytest.mark.parametrize("batches", [1, 2])
async def test_a_recovered_note_does_not_replace_the_saved_turn(
    batches: int, view: "View", new_session: "NewSession"
) -> None:
    session = new_session("recovered late")
    saved = session.seal(SAVED)
    note = session.seal(replace(SAVED, assistant_text="Good", recovered=True))
    turns = view(TURNS)
    for batch in [[saved, note]] if batches == 1 else [[saved], [note]]:
        await turns.given(batch)

    [row] = await view.rows("turns")
    assert (row["assistant_text"], row["recovered"]) == ("Good day.", False)


async def test_the_saved_turn_replaces_a_recovered_note(view: "View", new_session: "NewSession") -> None:
    session = new_session("recovered first")
    turns = view(TURNS)
    await turns.given([session.seal(replace(SAVED, assistant_text="Good", recovered=True))])
    await turns.given([session.seal(SAVED)])

    [row] = await view.rows("turns")
    assert (row["assistant_text"], row["recovered"]) == ("Good day.", False)


async def test_turns_of_two_agents_with_one_number_are_two_rows(
    view: "View", new_session: "NewSession"
) -> None:
    session = new_session("two agents")
    saved = [replace(SAVED, epoch=epoch, assistant_text=str(epoch)) for epoch in ("AJ_1", "AJ_2", None)]
    await view(TURNS).given(map(session.seal, saved))

    rows = await view.rows("turns", order="first_sequence")
    assert [(row["epoch"], row["turn"], row["assistant_text"]) for row in rows] == [
        ("AJ_1", 1, "AJ_1"),
        ("AJ_2", 1, "AJ_2"),
        ("", 1, "None"),
    ]


EVENTS_OF_A_TURN = (STARTED, SAVED, replace(STARTED, user_text="hello again"), replace(SAVED, recovered=True))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.permutations(EVENTS_OF_A_TURN).flatmap(lambda all_: st.integers(1, 4).map(lambda n: all_[:n])),
    cuts=st.sets(st.integers(1, 3)),
    again=st.lists(st.integers(0, 3), max_size=4),
)
def test_a_turn_does_not_depend_on_the_order_of_its_events(
    events: list[TurnStarted | TurnSaved],
    cuts: set[int],
    again: list[int],
    postgres_dsn: str,
    new_session: "NewSession",
) -> None:
    session = new_session("any order")
    log = [committed(session.seal(event), number, number) for number, event in enumerate(events, start=1)]
    starts = [n for n, event in enumerate(events) if isinstance(event, TurnStarted)]
    saves = [n for n, event in enumerate(events) if isinstance(event, TurnSaved)]
    complete = [n for n in saves if not getattr(events[n], "recovered", False)]
    shown = (complete or saves or starts)[-1]

    bounds = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
    batches = [log[start:end] for start, end in pairwise(bounds)]
    batches += [[log[number]] for number in again if number < len(log)]
    row = asyncio.run(_row(postgres_dsn, batches))

    assert (row["sequence"], row["first_sequence"]) == (shown + 1, 1)
    assert (row["state"], row["user_text"]) == ("saved" if saves else "open", events[shown].user_text)
    assert row["recovered"] == getattr(events[shown], "recovered", False)
    assert row["started_at"] == (log[starts[0]].time if starts else None)


async def _row(dsn: str, batches: list[list[Envelope]]) -> dict[str, Any]:
    database = await Database.connect(dsn, min_size=0, max_size=1)
    await database.pool.execute("truncate turns")
    async with database.pool.acquire() as connection:
        for batch in batches:
            await apply(TURNS, connection, batch, Advance("turns", [], [], [], []), Cache())
        [row] = await connection.fetch("select * from turns")
    await database.close()
    return dict(row)


async def test_stored_turns_of_an_older_version_are_upcast(
    view: "View", new_session: "NewSession", monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("older")
    stored = [session.turn(number) for number in (1, 2, 3)]
    monkeypatch.setattr(TurnSaved, "VERSION", 2)
    steps = {("turn.saved", 1): lambda body: {**body, "language": "en"}}
    monkeypatch.setattr(upcasters, "UPCASTERS", steps)
    await view(TURNS).given(stored)

    assert [(row["turn"], row["language"]) for row in await view.rows("turns", order="turn")] == [
        (1, "en"),
        (2, "en"),
        (3, "en"),
    ]


async def test_a_turn_of_a_newer_version_is_skipped(view: "View", new_session: "NewSession") -> None:
    import msgspec

    session = new_session("newer")
    newer = msgspec.structs.replace(
        session.turn(1), dataschema="https://antiphon.dev/schemas/turn.saved/2", data=msgspec.Raw(b"{}")
    )
    await view(TURNS).given([newer])
    assert await view.rows("turns") == []
