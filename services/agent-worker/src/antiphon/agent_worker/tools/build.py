"""LiveKit tools from the definitions of a flow."""

from livekit.agents import llm

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.tools.session_tools import SessionTools


def build_tool(bound: BoundFlow, name: str) -> llm.Tool | llm.Toolset:
    """Return a tool of a flow under the name that the flow gives it, or all tools of an MCP server.

    MCP servers need a flow with `SessionTools`. Raises ToolProblem.
    """
    tools = bound.tools if bound.tools is not None else SessionTools(bound, connect=False)
    return tools.build(name)
