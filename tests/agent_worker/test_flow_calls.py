"""A telephone call on a LiveKit server: keys, a hand-off, a transfer that fails, and silence."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.contracts.events.agent import AgentHandedOff, AgentReady, AgentTransferred
from antiphon.contracts.events.media import SipDtmfReceived
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]

PHONE_FLOW = """\
id: phone
name: Phone
description: A telephone menu.
limits: {silence_seconds: 3}
ending: {on_silence: Good bye.}
transfers: {desk: {to: "+49 30 123456", on_failure: Nobody is there.}}
dtmf:
  keys:
    "1": {hand_off: sales}
    "2": {transfer: desk}
    "3": hello
agents:
  host: {instructions: Answer., greeting: Press a key.}
  sales: {instructions: Sell., greeting: Sales here.}
script:
  fallback: Please say hello.
  phrases: {hello: hello}
  rules:
    - {hear: hello, say: Hello to you.}
"""
EVERYTHING = frozenset({AgentHandedOff.TYPE, AgentTransferred.TYPE, SipDtmfReceived.TYPE, TurnSaved.TYPE})


async def test_keys_steer_a_call_that_ends_in_silence(
    live_sessions: "Sessions", start_worker: StartWorker, tmp_path: Path
) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "phone.yaml").write_text(PHONE_FLOW)
    await publish_flows(live_sessions.bus, flows, tenant="default", now=lambda: datetime.now(UTC))
    start_worker()
    session_id = await live_sessions.request(flow_id="phone")
    async with live_sessions.caller(session_id, "sip_4917", by_phone=True) as caller:
        await live_sessions.wait_for(session_id, AgentReady.TYPE)
        room = caller.room
        for key in "312":
            await room.local_participant.publish_dtmf(code=int(key), digit=key)
        await live_sessions.wait_for(session_id, AgentTransferred.TYPE)
        await live_sessions.wait_for(session_id, SessionClosed.TYPE)

    events = [open_event(event) for event in await live_sessions.events(session_id)]
    of = {kind: [event for event in events if kind == event.TYPE] for kind in EVERYTHING}
    assert [event.digit for event in of[SipDtmfReceived.TYPE]] == ["3", "1", "2"]  # type: ignore[attr-defined]
    assert of[AgentHandedOff.TYPE][-1] == AgentHandedOff(from_agent="host", to_agent="sales", reason="key: 1")
    [transfer] = of[AgentTransferred.TYPE]
    assert isinstance(transfer, AgentTransferred)
    assert (transfer.person, transfer.status, transfer.to) == ("desk", "failed", "tel:+4930123456")
    assert transfer.detail  # a LiveKit server without its SIP service
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.SILENCE
    said = " ".join(turn.assistant_text or "" for turn in of[TurnSaved.TYPE])  # type: ignore[attr-defined]
    assert "Good bye." in said
