"""The agent listens to the caller, whatever their identity, in rooms of a real LiveKit server."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from antiphon.contracts.events.participant import ParticipantConnected
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

READY_SECONDS = 60


@pytest.mark.parametrize(("identity", "by_phone"), [("sip_+4930123456", True), ("ada", False)])
async def test_caller_with_any_identity_is_heard(
    identity: str, by_phone: bool, live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker()
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id, identity, by_phone=by_phone) as caller:
        await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
        assert await caller.say_until_understood("i would like to book a table for two")
    event = open_event(await live_sessions.wait_for(session_id, ParticipantConnected.TYPE))
    assert isinstance(event, ParticipantConnected)
    assert (event.identity, event.kind) == (identity, "sip" if by_phone else "standard")
    saved = open_event(await live_sessions.wait_for(session_id, "turn.saved"))
    assert getattr(saved, "user_text")  # noqa: B009 - of the one event


async def test_observer_who_came_first_gives_way_to_the_caller(
    live_sessions: "Sessions", start_worker: StartWorker
) -> None:
    start_worker()
    session_id = await live_sessions.request()
    async with live_sessions.caller(session_id, "supervisor") as observer:
        await observer.wait_until_ready(timeout_seconds=READY_SECONDS)
        async with live_sessions.caller(session_id) as caller:
            await caller.wait_for_quiet(timeout_seconds=READY_SECONDS)
            assert await caller.say_until_understood("i would like to book a table for two")
    saved = open_event(await live_sessions.wait_for(session_id, "turn.saved"))
    assert getattr(saved, "user_text")  # noqa: B009 - of the one event
