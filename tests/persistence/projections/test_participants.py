"""The view participants: one row per stay, which ends with the session at the latest."""

from typing import TYPE_CHECKING

import pytest
from tests.persistence.projections.test_analytics_views import CLOSED, JOINED, LEFT, of

from antiphon.contracts.event import Event
from antiphon.contracts.events.participant import ParticipantConnected, ParticipantNameChanged
from antiphon.contracts.events.session import FailureReason, SessionFailed
from antiphon.contracts.session import fold
from antiphon.persistence.projections.participants import PARTICIPANTS

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View

FAILED = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=2)


async def test_a_participant_that_returns_has_one_row(view: "View", new_session: "NewSession") -> None:
    session = new_session("returns")
    renamed = ParticipantNameChanged(identity="caller", sid="PA_1", old_name="", name="Ada")
    log = of(session, JOINED, JOINED, renamed, LEFT, JOINED)
    await view(PARTICIPANTS).given(log)

    [row] = await view.rows("participants")
    assert row == {
        "session_id": session.session_id,
        "sid": "PA_1",
        "tenant": "default",
        "identity": "caller",
        "kind": "STANDARD",
        "name": "Ada",
        "joined_at": log[0].time,
        "left_at": None,
        "reason": None,
        "reconnects": 1,
    }
    last = of(session, LEFT)
    await view(PARTICIPANTS).given(last)
    [row] = await view.rows("participants")
    assert (row["left_at"], row["reason"], row["reconnects"]) == (last[0].time, "CLIENT_INITIATED", 1)


@pytest.mark.parametrize("end", [CLOSED, FAILED])
async def test_the_end_of_a_session_ends_the_stays_that_go_on(
    end: Event, view: "View", new_session: "NewSession"
) -> None:
    session = new_session("hangs up")
    other = ParticipantConnected(identity="monitor", sid="PA_2", kind="STANDARD")
    log = of(session, JOINED, other, LEFT, end)
    await view(PARTICIPANTS).given(log)

    rows = {row["sid"]: (row["left_at"], row["reason"]) for row in await view.rows("participants")}
    assert rows == {"PA_1": (log[2].time, "CLIENT_INITIATED"), "PA_2": (log[3].time, None)}
    state = fold(session.session_id, "default", log)
    assert {sid: one.left_at for sid, one in state.participants.items()} == {
        sid: left_at for sid, (left_at, _) in rows.items()
    }


async def test_a_participant_whose_start_was_not_seen(view: "View", new_session: "NewSession") -> None:
    renamed = ParticipantNameChanged(identity="x", sid="PA_2", old_name="", name="nobody knows")
    await view(PARTICIPANTS).given(of(new_session("late"), LEFT, renamed))

    [row] = await view.rows("participants")
    assert (row["joined_at"], row["reconnects"]) == (None, 0)
