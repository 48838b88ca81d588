"""The sessions view is the fold of the log."""

from typing import TYPE_CHECKING

from antiphon.persistence.projections.sessions import SESSIONS, fold

if TYPE_CHECKING:
    from tests.persistence.conftest import Tell
    from tests.persistence.projections.conftest import View


async def test_a_whole_call_shows_as_closed(view: "View", story: "Tell") -> None:
    told = story("closed")
    await view(SESSIONS).given(told.whole_call(turns=3))

    [row] = await view.rows("sessions")
    assert (row["session_id"], row["tenant"], row["status"]) == (told.session_id, "default", "closed")
    assert (row["flow_id"], row["flow_revision"], row["user_id"]) == ("booking", 1, "u1")
    assert (row["turns"], row["sequence"], row["reason"]) == (3, 9, "caller_left")
    assert row["created_at"] < row["ended_at"] == row["updated_at"]


async def test_the_row_holds_the_whole_fold(view: "View", story: "Tell") -> None:
    told = story("fold")
    log = await view(SESSIONS).given(told.whole_call())

    assert await view.state(told.session_id) == view.folded(log)


async def test_the_same_events_again_change_nothing(view: "View", story: "Tell") -> None:
    told = story("twice")
    log = await view(SESSIONS).given(told.whole_call())
    before = await view.rows("sessions")

    for tail in (log, log[3:], log[:4]):
        await view(SESSIONS).again(tail)
    assert await view.rows("sessions") == before


async def test_batches_cut_anywhere_make_the_same_row(view: "View", story: "Tell") -> None:
    told = story("cut")
    log = await view(SESSIONS).given(told.whole_call())
    whole = await view.rows("sessions")

    for size in (1, 2, 5):
        await view.empty()
        for start in range(0, len(log), size):
            await view(SESSIONS).again(log[start : start + size])
        assert await view.rows("sessions") == whole


async def test_sessions_shuffled_together_do_not_touch_each_other(view: "View", story: "Tell") -> None:
    stories = [story(f"shuffled {n}") for n in range(4)]
    calls = [told.whole_call(turns=n + 1) for n, told in enumerate(stories)]
    log = await view(SESSIONS).given(view.shuffled(calls))

    assert [row["turns"] for row in await view.rows("sessions", order="turns")] == [1, 2, 3, 4]
    for told in stories:
        mine = [envelope for envelope in log if envelope.subject == told.session_id]
        assert await view.state(told.session_id) == view.folded(mine)


async def test_a_session_that_was_never_requested_counts_from_what_was_heard_first(
    view: "View", story: "Tell"
) -> None:
    told = story("webhook first")
    first, second = told.turn(1), told.turn(2)
    await view(SESSIONS).given([first])
    await view(SESSIONS).given([second])

    [row] = await view.rows("sessions")
    assert (row["created_at"], row["updated_at"]) == (first.time, second.time)
    assert (row["status"], row["flow_id"]) == ("active", "")


async def test_texts_that_postgres_could_not_hold_or_index_do_not_block_the_view(
    view: "View", story: "Tell"
) -> None:
    from antiphon.contracts.events.session import SessionRequested

    told = story("strange")
    user = "nul \0 " + "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    await view(SESSIONS).given(
        [told.tell(SessionRequested(flow_id="f\0", flow_revision=1, user_id=user, room="r"))]
    )

    [row] = await view.rows("sessions")
    assert row["user_id"].startswith("nul \N{REPLACEMENT CHARACTER} ")
    assert (await view.state(told.session_id)).user_id == user


def test_an_event_that_was_folded_before_changes_no_row(view: "View", story: "Tell") -> None:
    log = view.committed(story("pure").whole_call())
    rows = fold({}, log)

    assert fold(rows, log) == {}
