"""Prompts to a silent caller."""

import asyncio
from typing import Any

from livekit.agents import AgentSession, AgentStateChangedEvent, CloseEvent, UserStateChangedEvent

from antiphon.agent_worker.call import speak
from antiphon.agent_worker.flow.call import Silence


class SilencePrompter:
    """A prompter for a silent caller, with a limit; the count starts again when the caller speaks.

    LiveKit reports "away" once per silence, after the session's `user_away_timeout`. Later prompts in the
    same silence are scheduled here.
    """

    def __init__(self, session: AgentSession[Any], silence: Silence, text: str) -> None:
        self._session = session
        self._silence = silence
        self._text = text
        self._prompts = 0
        self._timer: asyncio.TimerHandle | None = None

    def on_user_state(self, event: UserStateChangedEvent) -> None:
        """Prompt a caller who is away; reset the count when they are back."""
        self._cancel()
        if event.new_state == "away":
            self._prompt()
        else:
            self._prompts = 0

    def on_agent_state(self, event: AgentStateChangedEvent) -> None:
        """Schedule the next prompt when the agent has finished speaking the last one."""
        self._cancel()
        is_left = self._prompts < self._silence.at_most
        if event.new_state == "listening" and self._session.user_state == "away" and is_left:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._silence.after_seconds, self._prompt)

    def on_close(self, _event: CloseEvent) -> None:
        """Stop prompting."""
        self._prompts = self._silence.at_most
        self._cancel()

    def _prompt(self) -> None:
        self._timer = None
        if self._prompts < self._silence.at_most:
            self._prompts += 1
            speak(self._session, self._text)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def prompt_on_silence(session: AgentSession[Any], silence: Silence, text: str) -> SilencePrompter:
    """Prompt the caller of a session with a text on silence, as the flow defines."""
    prompter = SilencePrompter(session, silence, text)
    session.on("user_state_changed", prompter.on_user_state)
    session.on("agent_state_changed", prompter.on_agent_state)
    session.on("close", prompter.on_close)
    return prompter
