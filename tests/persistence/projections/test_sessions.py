"""The sessions view is the fold of the log."""

from typing import TYPE_CHECKING

from antiphon.contracts.events.session import SessionRequested
from antiphon.persistence.projection.cache import Cache
from antiphon.persistence.projection.rows import Rows
from antiphon.persistence.projections.sessions import SESSION, SESSIONS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View


async def test_a_whole_call_shows_as_closed(view: "View", new_session: "NewSession") -> None:
    session = new_session("closed")
    await view(SESSIONS).given(session.whole_call(turns=3))

    [row] = await view.rows("sessions")
    assert (row["session_id"], row["tenant"], row["status"]) == (session.session_id, "default", "closed")
    assert (row["flow_id"], row["flow_revision"], row["user_id"]) == ("booking", 1, "u1")
    assert (row["turns"], row["sequence"], row["reason"]) == (3, 9, "caller_left")
    assert row["created_at"] < row["ended_at"] == row["updated_at"]


async def test_the_terms_of_metadata_go_with_it(view: "View", new_session: "NewSession") -> None:
    session = new_session("requested twice")
    requests = [
        session.seal(SessionRequested(flow_id="f", flow_revision=1, user_id="u", room="r", metadata=metadata))
        for metadata in ({"customer": "42"}, {})
    ]
    await view(SESSIONS).given(requests[:1])
    assert [row["metadata_terms"] for row in await view.rows("sessions")] == [["customer=42"]]
    await view(SESSIONS).given(requests[1:])
    assert [row["metadata_terms"] for row in await view.rows("sessions")] == [[]]


async def test_the_row_holds_the_whole_fold(view: "View", new_session: "NewSession") -> None:
    session = new_session("fold")
    log = await view(SESSIONS).given(session.whole_call())

    assert await view.state(session.session_id) == view.folded(log)


async def test_the_same_events_again_change_nothing(view: "View", new_session: "NewSession") -> None:
    session = new_session("twice")
    log = await view(SESSIONS).given(session.whole_call())
    before = await view.rows("sessions")

    for tail in (log, log[3:], log[:4]):
        await view(SESSIONS).again(tail)
    assert await view.rows("sessions") == before


async def test_the_row_does_not_depend_on_batch_sizes(view: "View", new_session: "NewSession") -> None:
    session = new_session("cut")
    log = await view(SESSIONS).given(session.whole_call())
    whole = await view.rows("sessions")

    for size in (1, 2, 5):
        await view.empty()
        for start in range(0, len(log), size):
            await view(SESSIONS).again(log[start : start + size])
        assert await view.rows("sessions") == whole


async def test_interleaved_sessions_do_not_affect_each_other(view: "View", new_session: "NewSession") -> None:
    sessions = [new_session(f"shuffled {n}") for n in range(4)]
    calls = [session.whole_call(turns=n + 1) for n, session in enumerate(sessions)]
    log = await view(SESSIONS).given(view.shuffled(calls))

    assert [row["turns"] for row in await view.rows("sessions", order="turns")] == [1, 2, 3, 4]
    for session in sessions:
        mine = [envelope for envelope in log if envelope.subject == session.session_id]
        assert await view.state(session.session_id) == view.folded(mine)


async def test_a_session_without_its_request_is_created_at_its_first_event(
    view: "View", new_session: "NewSession"
) -> None:
    session = new_session("webhook first")
    first, second = session.turn(1), session.turn(2)
    await view(SESSIONS).given([first])
    await view(SESSIONS).given([second])

    [row] = await view.rows("sessions")
    assert (row["created_at"], row["updated_at"]) == (first.time, second.time)
    assert (row["status"], row["flow_id"]) == ("active", None)


async def test_texts_that_postgres_cannot_store_or_index_do_not_block_the_view(
    view: "View", new_session: "NewSession"
) -> None:
    from antiphon.contracts.events.session import SessionRequested

    session = new_session("strange")
    user = "nul \0 " + "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    await view(SESSIONS).given(
        [session.seal(SessionRequested(flow_id="f\0", flow_revision=1, user_id=user, room="r"))]
    )

    [row] = await view.rows("sessions")
    assert row["user_id"].startswith("nul \N{REPLACEMENT CHARACTER} ")
    assert (await view.state(session.session_id)).user_id == user


async def test_an_adopted_session_is_found_by_its_room(view: "View", new_session: "NewSession") -> None:
    from antiphon.contracts.events.session import SessionAdopted

    session = new_session("adopted")
    await view(SESSIONS).given([session.seal(SessionAdopted(room="lobby", user_id="ada")), session.turn(1)])

    [row] = await view.rows("sessions")
    assert (row["room"], row["user_id"], row["flow_id"], row["status"]) == ("lobby", "ada", None, "active")


async def test_metadata_is_neither_cached_nor_lost(view: "View", new_session: "NewSession") -> None:
    from antiphon.contracts.events.session import SessionRequested

    session = new_session("metadata")
    metadata = {"order": "x" * 1000}
    request = SessionRequested(flow_id="f", flow_revision=1, user_id="u", room="r", metadata=metadata)
    cache = Cache()
    for envelope in view.committed([session.seal(request), session.turn(1), session.turn(2)]):
        await view(SESSIONS).again([envelope], cache)

    assert (await view.state(session.session_id)).metadata == metadata
    cached = cache.of(SESSION).get((session.session_id,))
    assert cached is not None
    assert cached["state"].metadata == {}


async def test_a_session_with_large_documents_is_not_cached(view: "View", new_session: "NewSession") -> None:
    from antiphon.contracts.events.agent import AgentReady

    session = new_session("large")
    ready = session.seal(AgentReady(greeting="x" * 10_000, ready_ms=1.0))
    cache = Cache()
    log = view.committed([session.requested(), ready, session.turn(1), session.turn(2)])

    await view(SESSIONS).again(log[:1], cache)
    assert len(cache)
    for envelope in log[1:]:
        await view(SESSIONS).again([envelope], cache)
        assert not len(cache)
    assert await view.state(session.session_id) == view.folded(log)


def test_an_event_that_was_folded_already_changes_no_row(view: "View", new_session: "NewSession") -> None:
    log = view.committed(new_session("pure").whole_call())
    cache = Cache(empty=True)
    rows = Rows(cache)
    SESSIONS.fold(SESSIONS.opened(log), rows)
    rows.keep()

    again = Rows(cache)
    SESSIONS.fold(SESSIONS.opened(log), again)

    assert again.written() == {}
