"""The timeline shows who was in charge of a conversation, from when to when."""

from typing import TYPE_CHECKING

from tests.persistence.projections.test_analytics_views import of

from antiphon.contracts.events.agent import AgentHandedOff, AgentLost, AgentTransferred
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.persistence.projections.timeline import TIMELINE

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession
    from tests.persistence.projections.conftest import View

CLOSED = SessionClosed(reason=CloseReason.TRANSFERRED, fault=FaultSide.NONE, duration_seconds=9, turns=2)


async def test_each_agent_is_in_charge_until_the_next_one(view: "View", new_session: "NewSession") -> None:
    log = of(
        new_session("segments"),
        AgentHandedOff(to_agent="greeter"),
        AgentHandedOff(from_agent="greeter", to_agent="sales", reason="rule: buy"),
        AgentHandedOff(from_agent="sales", to_agent="greeter", reason="tool: done"),
        AgentTransferred(person="desk", status="failed", detail="busy"),
        AgentTransferred(person="desk", status="done", reason="rule: desk"),
        CLOSED,
    )
    await view(TIMELINE).given(log)

    number = {envelope.time: place for place, envelope in enumerate(log, start=1)}
    rows = await view.rows("timeline", order="started_at, sequence, part")
    assert [(row["title"], row["detail"], row["sequence"], number[row["ended_at"]]) for row in rows] == [
        ("start → greeter", None, 1, 2),
        ("greeter → sales", "rule: buy", 2, 3),
        ("sales → greeter", "tool: done", 3, 6),
        ("Transfer to desk failed", "busy", 4, 4),
        ("Transfer to desk", "rule: desk", 5, 5),
        ("Session closed: transferred", None, 6, 6),
    ]


async def test_an_agent_that_is_lost_is_in_charge_no_longer(view: "View", new_session: "NewSession") -> None:
    log = of(
        new_session("lost"),
        AgentHandedOff(to_agent="greeter"),
        AgentLost(job_id="AJ_1", noticed_by="heartbeat"),
        CLOSED,
    )
    await view(TIMELINE).given(log)

    [row] = [row for row in await view.rows("timeline", order="sequence, part") if "→" in row["title"]]
    assert row["ended_at"] == log[1].time
