"""The deadlines of the agent in charge: LiveKit has one set of them for all agents of a session."""

from typing import Any

from livekit.agents import AgentSession, ConversationItemAddedEvent

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.providers.voices import connect_options, unheard_seconds


def keep_deadlines_of_agents(session: AgentSession[Any], bound: BoundFlow) -> None:
    """Give a session the deadlines of each agent that takes over, before its providers are asked."""

    def on_item(event: ConversationItemAddedEvent) -> None:
        if event.item.type == "agent_handoff" and event.item.new_agent_id in bound.flow.agents:
            voice = bound.flow.voice_of(event.item.new_agent_id)
            session._conn_options = connect_options(voice)
            session.options.transcription_timeout = unheard_seconds(voice)

    session.on("conversation_item_added", on_item)
