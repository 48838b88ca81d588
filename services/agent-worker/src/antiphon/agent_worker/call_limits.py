"""The limits of a call that a flow sets: how long it lasts, and how long nobody speaks."""

import asyncio
from typing import Any

from livekit.agents import AgentSession

from antiphon.agent_worker.call import Call
from antiphon.agent_worker.hang_up import hang_up
from antiphon.contracts.events.session import CloseReason

QUIET_STATES = ("listening", "idle")  # of the agent; the user is quiet unless speaking


class CallLimits:
    """The limits of one call, from when the caller is there; stop them when the session closes."""

    def __init__(self, call: Call, session: AgentSession[Any]) -> None:
        self._call = call
        self._session = session
        self._limits = call.bound.flow.limits
        self._silence: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(self._limits.call_seconds, self._too_long)
        session.on("user_state_changed", self.heard)
        session.on("agent_state_changed", self.heard)
        session.on("close", self._stop)
        self.heard()

    def heard(self, *_: object) -> None:
        """Start the wait for silence again: one of them spoke, pressed a key, or is quiet again."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        seconds, session = self._limits.silence_seconds, self._session
        quiet = session.user_state != "speaking" and session.agent_state in QUIET_STATES
        if seconds is not None and quiet and not self._end.cancelled():
            self._silence = asyncio.get_running_loop().call_later(seconds, self._too_quiet)

    def _too_long(self) -> None:
        self._hang_up(CloseReason.MAX_DURATION, self._call.bound.flow.ending.on_limit)

    def _too_quiet(self) -> None:
        self._hang_up(CloseReason.SILENCE, self._call.bound.flow.ending.on_silence)

    def _hang_up(self, reason: CloseReason, text: str | None) -> None:
        self._stop()
        hang_up(self._call, self._session, reason, None if text is None else self._call.bound.text(text))

    def _stop(self, *_: object) -> None:
        self._end.cancel()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
