"""A session that does not wait for running tools without end when it closes, or when it changes its agent."""

import asyncio
from typing import Any, Final

from livekit.agents import Agent, AgentSession, CloseReason, ConversationItemAddedEvent

from antiphon.agent_worker.flow.bound import BoundFlow

DRAIN_SECONDS: Final = 5.0  # for tools to end, before they are stopped


class ClosingSession(AgentSession[Any]):
    """An AgentSession that stops the running tools of its flow when it closes, for whatever reason.

    LiveKit waits for them, up to their time limit. A session that is drained gives them some seconds, and so
    does one whose agent hands over: until then nobody would answer the caller.
    """

    def __init__(self, bound: BoundFlow, **options: Any) -> None:
        super().__init__(**options)
        self._bound = bound
        self._handing_over: asyncio.TimerHandle | None = None
        self.on("conversation_item_added", self._on_item)

    def update_agent(self, agent: Agent) -> None:
        """Let an agent take over; LiveKit calls this too, for a tool that hands over."""
        super().update_agent(agent)
        if self._started and self._handing_over is None:
            self._handing_over = asyncio.get_running_loop().call_later(
                DRAIN_SECONDS, self._stop_running, agent
            )

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type == "agent_handoff" and self._handing_over is not None:
            self._handing_over.cancel()
            self._handing_over = None

    def _stop_running(self, agent: Agent) -> None:
        if self._bound.tools is not None:
            self._bound.tools.stop_running(f"{agent.id} takes over")

    async def _aclose_impl(self, *, reason: CloseReason, drain: bool = False, error: Any = None) -> None:
        stopping: asyncio.TimerHandle | None = None
        if drain:
            stopping = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._stop)
        else:
            self._stop()
        try:
            await super()._aclose_impl(reason=reason, drain=drain, error=error)
        finally:
            for timer in (stopping, self._handing_over):
                if timer is not None:
                    timer.cancel()

    def _stop(self) -> None:
        if self._bound.tools is not None:
            self._bound.tools.stop()
