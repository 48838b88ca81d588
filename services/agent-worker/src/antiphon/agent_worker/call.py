"""What the agents of one call share: the flow, their models, the record and the telephone."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from livekit.agents import AgentSession
from livekit.agents.llm import RealtimeModel
from livekit.agents.voice import SpeechHandle

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.providers.table import LlmFactory
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError
from antiphon.contracts.events.session import CloseReason

AgentVoice = Callable[[BoundFlow, str], Mapping[str, Any]]  # the agent's own models: arguments of Agent


class CallRecord(Protocol):
    """Where a call is recorded: antiphon.recorder.Recording."""

    def write(self, event: Event, /) -> None:
        """Record an event of the agent's own."""

    def ends_for(self, reason: CloseReason, detail: str | None = None, /) -> None:
        """Give the reason of the end of the call."""

    def hands_off_for(self, reason: str, /) -> None:
        """Give the reason of the next hand-off."""


class NoRecord:
    """The record of a conversation that is not recorded."""

    def write(self, event: Event, /) -> None:
        """Record nothing."""

    def ends_for(self, reason: CloseReason, detail: str | None = None, /) -> None:
        """Record nothing."""

    def hands_off_for(self, reason: str, /) -> None:
        """Record nothing."""


class TransferFailed(Exception):
    """The caller could not be transferred; the message says why."""


class Telephone(Protocol):
    """The telephone of the caller."""

    async def transfer(self, to: str, /) -> None:
        """Transfer the caller to `tel:` or `sip:`. Raises TransferFailed."""


class NoTelephone:
    """The telephone of a caller who has none."""

    async def transfer(self, _to: str, /) -> None:
        """Raise TransferFailed."""
        raise TransferFailed(
            "the caller is not on the telephone, and only telephone calls can be transferred"
        )


@dataclass(slots=True)
class Call:
    """One call: its flow, and what its agents need beside it. A `silent` call answers nobody any more."""

    bound: BoundFlow
    voice: AgentVoice
    record: CallRecord = field(default_factory=NoRecord)
    telephone: Telephone = field(default_factory=NoTelephone)
    silent: bool = False
    ending: asyncio.Task[None] | None = None  # hangs up
    handing_over: tuple[SpeechHandle, str] | None = None  # the answer that did so last, and to whom
    transferring: bool = False

    def problem(self, kind: str, message: str) -> None:
        """Record an error of the flow, after which the call goes on."""
        self.record.write(AgentError(source="flow", kind=kind, recoverable=True, message=message))

    def is_scripted(self, agent: str) -> bool:
        """Return whether an agent has no model but its script."""
        llm = self.bound.flow.voice_of(agent).llm
        return llm is not None and llm.use == "offline"


def only_llm(build_llm: LlmFactory) -> AgentVoice:
    """Return agents' voices that have nothing of their own but the language model."""
    return lambda bound, name: {"llm": build_llm(bound, name)}


def speak(session: AgentSession[Any], text: str, *, interruptible: bool = True) -> SpeechHandle:
    """Say a text; a model that speaks itself is asked to."""
    if not (session.tts or session.current_agent.tts) and _speaks_itself(session):
        return session.generate_reply(
            instructions=f"Say exactly this, and nothing else: {text}", allow_interruptions=interruptible
        )
    return session.say(text, allow_interruptions=interruptible)


def _speaks_itself(session: AgentSession[Any]) -> bool:
    model = session.current_agent.llm or session.llm
    return isinstance(model, RealtimeModel)
