"""What was announced is rendered once for all streams, and kept within a number of bytes."""

import pytest
from tests.fixtures.clock import FixedClock

from antiphon.contracts.envelope import Envelope, committed, seal
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.livekit import LiveKitRoomFinished
from antiphon.contracts.events.session import FailureReason, SessionFailed
from antiphon.session_api.sessions.rendering import Renderer, render

READY = AgentReady(greeting="x" * 1_000, ready_ms=1.0)
FAILED = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1)
FINISHED = LiveKitRoomFinished(webhook_id="EV_1", room="r", payload={})


def _event(event: Event, number: int = 1) -> Envelope:
    envelope = seal(
        event,
        id=f"event {number}",
        session_id="ses_00000000000000000000000000",
        tenant="default",
        producer="test",
        producerseq=number,
        time=FixedClock()(),
    )
    return committed(envelope, number, number)


def test_an_announcement_is_rendered_once() -> None:
    renderer = Renderer()
    announced = (_event(READY), _event(READY, 2))

    assert renderer(announced) is renderer(announced)
    assert renderer(announced).chunk == render(list(announced)).chunk
    assert renderer(list(announced)) is not renderer(announced)


def test_what_is_kept_is_bounded_in_bytes() -> None:
    renderer = Renderer(max_bytes=10_000)
    announcements = [(_event(READY, number),) for number in range(1, 51)]

    for announced in announcements:
        assert renderer(announced) is renderer(announced)
        assert renderer.bytes <= 10_000

    assert renderer.bytes > 5_000
    assert [renderer(announced).chunk for announced in announcements] == [
        render(announced).chunk for announced in announcements
    ]


@pytest.mark.parametrize(
    ("event", "ended", "finished"), [(READY, False, False), (FAILED, True, False), (FINISHED, False, True)]
)
def test_the_ends_of_session_and_room_are_noted(event: Event, ended: bool, finished: bool) -> None:
    rendered = render([_event(READY), _event(event, 2)])

    assert (rendered.ended, rendered.finished) == (ended, finished)
