"""What begins when the caller is there: the limits, the keys of the telephone, the watch for a machine."""

from typing import Any

from livekit import rtc
from livekit.agents import AgentSession

from antiphon.agent_worker.call import Call
from antiphon.agent_worker.call_limits import CallLimits
from antiphon.agent_worker.keys import Keys
from antiphon.agent_worker.voicemail import watch_for_machine


def answered(call: Call, session: AgentSession[Any], room: rtc.Room) -> None:
    """Begin what goes on until the session closes; call it once the session listens to the caller."""
    limits = CallLimits(call, session)
    room.on("sip_dtmf_received", limits.heard)
    flow = call.bound.flow
    if flow.dtmf is not None:
        room.on("sip_dtmf_received", Keys(call, session, flow.dtmf).on_dtmf)
    caller = session.room_io.linked_participant
    by_phone = caller is not None and caller.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    if flow.voicemail is not None and by_phone:  # no machine answers in a browser
        watch_for_machine(call, session, flow.voicemail)
