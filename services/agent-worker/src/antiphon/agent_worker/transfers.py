"""Transfers of the caller to a person by telephone: the tool, the number, and LiveKit's SIP service."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from livekit import api, rtc
from livekit.agents import AgentSession, RunContext, function_tool, llm
from livekit.agents.llm import ToolError, ToolResult

from antiphon.agent_worker.call import Call, TransferFailed, speak
from antiphon.agent_worker.flow.answers import RuleAnswers
from antiphon.agent_worker.flow.builtin import transfer_tool
from antiphon.agent_worker.flow.call import dialled
from antiphon.agent_worker.hand_off import REASON, why
from antiphon.contracts.events.agent import AgentTransferred
from antiphon.contracts.events.session import CloseReason

RINGING_SECONDS: Final = 30
TRANSFER_SECONDS: Final = 45.0  # with the time that LiveKit needs beside the ringing
SPEECH_SECONDS: Final = 30.0  # for what the caller hears before it


def destination(text: str) -> str:
    """Return a number as `tel:…`, or a SIP address as it is. Raises TransferFailed."""
    try:
        return dialled(text)
    except ValueError as error:
        raise TransferFailed(str(error)) from error


class SipTelephone:
    """The telephone of a caller who came by SIP: LiveKit sends a REFER to it."""

    def __init__(
        self, session: AgentSession[Any], room: rtc.Room, sip: "Callable[[], api.sip_service.SipService]"
    ) -> None:
        self._session = session
        self._room = room
        self._sip = sip

    async def transfer(self, to: str, /) -> None:
        """Transfer the caller; returns when the other side has answered. Raises TransferFailed."""
        caller = self._session.room_io.linked_participant
        if caller is None or caller.kind != rtc.ParticipantKind.PARTICIPANT_KIND_SIP:
            raise TransferFailed(
                "the caller is not on the telephone, and only telephone calls can be transferred"
            )
        request = api.TransferSIPParticipantRequest(
            participant_identity=caller.identity,
            room_name=self._room.name,
            transfer_to=to,
            play_dialtone=True,
        )
        request.ringing_timeout.seconds = RINGING_SECONDS
        try:
            async with asyncio.timeout(TRANSFER_SECONDS):
                answer = await self._sip().transfer_sip_participant(request)
        except TimeoutError as error:
            raise TransferFailed(f"nobody answered within {TRANSFER_SECONDS:g} s") from error
        except api.SipCallError as error:
            raise TransferFailed(_said(error)) from error
        except api.ServerError as error:
            raise TransferFailed(f"LiveKit refused it: {error.code}: {error.message}") from error
        except OSError as error:  # aiohttp's errors of connections are
            raise TransferFailed(f"LiveKit cannot be reached: {error}") from error
        # servers before 1.14 answer without a body, once the transfer is done
        done = answer.status == api.SIPTransferStatus.STS_TRANSFER_SUCCESSFUL or not answer.transfer_id
        if not done:
            status = answer.sip_status.status or "no reason"
            raise TransferFailed(f"the other side did not take the call ({status})")


def _said(error: api.SipCallError) -> str:
    status = " ".join(str(part) for part in (error.sip_status_code, error.sip_status) if part)
    return f"the other side did not take the call ({status or error.sip_transfer_reason or error.message})"


def transfer_function(call: Call, answers: RuleAnswers, person: str) -> llm.Tool:
    """Return the tool of an agent that transfers the caller to a person."""
    transfer = call.bound.flow.transfers[person]

    async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> ToolResult:
        session = context.session
        rule = answers.rule_of(session.current_agent.chat_ctx, context.function_call.call_id)
        if rule is None and transfer.say is not None:
            await _spoken(speak(session, call.bound.text(transfer.say)))
        else:
            await _spoken(context.wait_for_playout())
        error = await transfer_caller(call, session, person, why(rule, raw_arguments))
        if error is None:
            return ToolResult("transferred", reply_required=False)
        if transfer.on_failure is None:
            raise ToolError(f"The caller was not transferred: {error}. Tell the caller, and go on.")
        return ToolResult(f"not transferred: {error}; the caller knows", reply_required=False)

    when = call.bound.text(transfer.when or f"when the caller wants to talk to {person}")
    schema = {
        "name": transfer_tool(person),
        "description": f"Transfer the caller to {person}, by telephone: {when}",
        "parameters": REASON,
    }
    return function_tool(run, raw_schema=schema)


async def transfer_caller(call: Call, session: AgentSession[Any], person: str, reason: str) -> str | None:
    """Transfer the caller to a person, on record, and end the call.

    Returns the error of a transfer that failed: the caller has heard `on_failure`, and the call goes on.
    While a transfer is under way, another one is refused.
    """
    if call.transferring:
        return "a transfer is under way already"
    call.transferring = True
    transfer = call.bound.flow.transfers[person]
    to: str | None = None
    try:
        to = destination(call.bound.text(transfer.to))
        await call.telephone.transfer(to)
    except TransferFailed as failure:
        error = str(failure)
        call.record.write(
            AgentTransferred(person=person, status="failed", to=to, reason=reason, detail=error)
        )
        if transfer.on_failure is not None:
            speak(session, call.bound.text(transfer.on_failure))
        return error
    finally:
        call.transferring = False
    call.transferring = True  # until the session is closed
    call.record.write(AgentTransferred(person=person, status="done", to=to, reason=reason))
    call.record.ends_for(CloseReason.TRANSFERRED)
    session.shutdown(drain=False)
    return None


async def _spoken(speech: Any) -> None:
    try:
        async with asyncio.timeout(SPEECH_SECONDS):
            await speech
    except TimeoutError:
        return  # of a text that long, the caller has heard enough
