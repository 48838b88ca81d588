"""The turns view has one row per turn, as it was saved."""

from typing import TYPE_CHECKING

from antiphon.contracts.events.turn import TurnSaved
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


async def test_a_turn_of_a_newer_version_is_skipped(view: "View", new_session: "NewSession") -> None:
    import msgspec

    session = new_session("newer")
    newer = msgspec.structs.replace(
        session.turn(1), dataschema="https://antiphon.dev/schemas/turn.saved/2", data=msgspec.Raw(b"{}")
    )
    await view(TURNS).given([newer])
    assert await view.rows("turns") == []
