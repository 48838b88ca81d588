"""The conversations that agents hold: flow files, and the agents that they describe."""

from typing import TYPE_CHECKING, Any

from antiphon.agent_worker.flow.loader import load_flow
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.problems import FlowProblem, InvalidFlow

if TYPE_CHECKING:
    from livekit.agents import Agent

__all__ = ["Flow", "FlowProblem", "InvalidFlow", "build_entry_agent", "flow_json_schema", "load_flow"]


def build_entry_agent(flow: Flow) -> "Agent":
    """Build the agent that answers the call; it makes the others when it hands over to them."""
    from antiphon.agent_worker.flow.agents import FlowAgent

    return FlowAgent(flow, flow.entry)


def flow_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a flow file."""
    from antiphon.agent_worker.flow.schema import flow_json_schema as schema

    return schema()
