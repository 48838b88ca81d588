"""The turns view has one row a turn, as it was saved."""

from typing import TYPE_CHECKING

from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.projections.turns import TURNS

if TYPE_CHECKING:
    from tests.persistence.conftest import Tell
    from tests.persistence.projections.conftest import View


async def test_each_turn_is_a_row_as_it_was_told(view: "View", story: "Tell") -> None:
    told = story("told")
    saved = told.tell(
        TurnSaved(
            turn=2,
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
    await view(TURNS).given([told.requested(), told.turn(1), saved])

    assert [row["turn"] for row in await view.rows("turns", order="turn")] == [1, 2]
    assert (await view.rows("turns", order="turn"))[1] == {
        "session_id": told.session_id,
        "turn": 2,
        "tenant": "default",
        "agent_id": "manager",
        "interrupted": True,
        "recovered": True,
        "occurred_at": saved.time,
        "sequence": 3,
        "tool_call_ids": '["call_1","call_2"]',
        "metrics": '{"e2e_latency":0.25}',
        "user_text": "nul \N{REPLACEMENT CHARACTER} inside",
        "assistant_text": "With plea",
        "assistant_text_generated": "With pleasure.",
        "language": "en",
        "confidence": 0.5,
    }


async def test_words_that_the_agent_said_unasked_have_no_user_text(view: "View", story: "Tell") -> None:
    told = story("unasked")
    await view(TURNS).given([told.tell(TurnSaved(turn=1, agent_id="host", assistant_text="Still there?"))])

    [row] = await view.rows("turns")
    assert (row["user_text"], row["assistant_text"]) == (None, "Still there?")


async def test_the_same_events_again_change_nothing(view: "View", story: "Tell") -> None:
    log = await view(TURNS).given(story("twice").whole_call())
    before = await view.rows("turns")

    for tail in (log, log[5:], log[:6]):
        await view(TURNS).again(tail)
    assert await view.rows("turns") == before


async def test_a_turn_that_is_saved_again_is_as_the_later_event_told_it(view: "View", story: "Tell") -> None:
    told = story("resaved")
    first, second = told.turn(1, "heard in part"), told.turn(1, "heard in full")
    log = await view(TURNS).given([first, second])
    assert [row["user_text"] for row in await view.rows("turns")] == ["heard in full"]

    await view(TURNS).again(log[:1])
    assert [row["user_text"] for row in await view.rows("turns")] == ["heard in full"]


async def test_sessions_shuffled_together_do_not_touch_each_other(view: "View", story: "Tell") -> None:
    calls = [story(f"shuffled {n}").whole_call(turns=n + 1) for n in range(4)]
    await view(TURNS).given(view.shuffled(calls))

    counted = [row["session_id"] for row in await view.rows("turns")]
    assert sorted(counted.count(session_id) for session_id in set(counted)) == [1, 2, 3, 4]


async def test_other_events_leave_no_row(view: "View", story: "Tell") -> None:
    told = story("other")
    await view(TURNS).given([told.requested()])
    assert await view.rows("turns") == []


async def test_a_turn_of_a_newer_version_is_left_to_newer_readers(view: "View", story: "Tell") -> None:
    import msgspec

    told = story("newer")
    newer = msgspec.structs.replace(
        told.turn(1), dataschema="https://antiphon.dev/schemas/turn.saved/2", data=msgspec.Raw(b"{}")
    )
    await view(TURNS).given([newer])
    assert await view.rows("turns") == []
