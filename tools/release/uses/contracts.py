"""Seal an event, send it through its JSON, and fold it."""

from datetime import UTC, datetime

from antiphon.contracts.envelope import decode, encode, seal
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.ids import new_session_id
from antiphon.contracts.registry import open_event
from antiphon.contracts.session import fold

now = datetime.now(UTC)
session = new_session_id(now, bytes(10))
turn = TurnSaved(
    turn=1, agent_id="host", user_text="a table for two", assistant_text="Which day?", metrics={}
)
sealed = seal(
    turn, id=f"{session}:1", session_id=session, tenant="default", producer="agent", producerseq=1, time=now
)
received = decode(encode(sealed))
assert open_event(received) == turn
state = fold(session, "default", [received])
assert state.turns == 1, state
print("an event was sealed, decoded and folded")
