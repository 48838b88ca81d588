"""What the agent says into a silence."""

import asyncio
from typing import TYPE_CHECKING, Any

from antiphon.agent_worker.flow.model import Flow

if TYPE_CHECKING:
    from livekit.agents import AgentSession, AgentStateChangedEvent, CloseEvent, UserStateChangedEvent


class SilencePrompt:
    """Asks a silent caller whether they are there, a few times, and starts over when they speak.

    LiveKit says "away" once per silence (after the session's `user_away_timeout`); the later prompts of the
    same silence are timed here.
    """

    def __init__(self, session: "AgentSession[Any]", flow: Flow) -> None:
        self._session = session
        self._silence = flow.silence
        self._said = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether another prompt will come if the silence goes on."""
        return self._timer is not None

    def on_user_state(self, event: "UserStateChangedEvent") -> None:
        """Prompt when the caller is away; forget the silence when they are back."""
        self._cancel()
        if event.new_state == "away":
            self._prompt()
        else:
            self._said = 0

    def on_agent_state(self, event: "AgentStateChangedEvent") -> None:
        """Wait again once the prompt itself has been spoken."""
        self._cancel()
        may_ask_again = self._said < self._silence.at_most
        if event.new_state == "listening" and self._session.user_state == "away" and may_ask_again:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._silence.after_seconds, self._prompt)

    def on_close(self, _event: "CloseEvent") -> None:
        """Say nothing more."""
        self._said = self._silence.at_most
        self._cancel()

    def _prompt(self) -> None:
        self._timer = None
        if self._said < self._silence.at_most:
            self._said += 1
            self._session.say(self._silence.say)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def attach(session: "AgentSession[Any]", flow: Flow) -> SilencePrompt:
    """Let a session speak into its silences as the flow says."""
    prompt = SilencePrompt(session, flow)
    session.on("user_state_changed", prompt.on_user_state)
    session.on("agent_state_changed", prompt.on_agent_state)
    session.on("close", prompt.on_close)
    return prompt
