"""The tools of an MCP server as LiveKit tools; their list follows the server's."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import mcp_types as types
from livekit.agents import RunContext, function_tool, llm
from livekit.agents.llm import ToolResult

from antiphon.agent_worker.flow.builtin import END_CALL, hand_off_tool, transfer_tool
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.tools.mcp_connection import McpConnection
from antiphon.agent_worker.tools.run import Calls
from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

START_SECONDS = 2.0  # how long the greeting waits for a server; its tools come later then

_RESERVED = (END_CALL, hand_off_tool(""), transfer_tool(""), "lk_agents_")


class ToolNames:
    """Who offers the tool of a name: a server cannot take one that the flow or another server has."""

    def __init__(self, taken: Collection[str]) -> None:
        self._owners = dict.fromkeys(taken, "the flow")

    def claim(self, tool: str, server: str) -> bool:
        """Return whether a server may offer a tool by this name; the first that asks may."""
        owner = "every flow" if tool.startswith(_RESERVED) else self._owners.setdefault(tool, server)
        if owner == server:
            return True
        log.error(
            "tool.mcp_name_taken",
            extra={
                "tool": tool,
                "server": server,
                "taken_by": owner,
                "what_to_do": f"name the other tools of {server} in its `tools`",
            },
        )
        return False


class McpToolset(llm.Toolset):
    """The tools of a server for one agent."""

    def __init__(
        self,
        name: str,
        connection: McpConnection,
        definition: ToolDefinition,
        names: ToolNames,
        calls: Calls,
        filler: Callable[[], str | None],
    ) -> None:
        super().__init__(id=name)
        self._connection = connection
        self._definition = definition
        self._names = names
        self._calls = calls
        self._filler = filler
        self._listed: list[types.Tool] | None = None  # the server's list, from which `tools` is made
        self._made: list[llm.Tool | llm.Toolset] = []

    @property
    def tools(self) -> Sequence[llm.Tool | llm.Toolset]:
        """The tools that the flow allows, as the server had them when it was last reached."""
        listed = self._connection.tools
        if listed is not self._listed:
            self._listed = listed
            self._made = [self._tool(tool) for tool in listed if self._offers(tool.name)]
        return self._made

    async def setup(self) -> "McpToolset":
        """Wait for the tools, for a moment only: a greeting may wait for this."""
        await self._connection.wait_listed(START_SECONDS)
        return self

    def _offers(self, tool: str) -> bool:
        server = self._definition.mcp
        assert server is not None
        allowed = server.tools is None or tool in server.tools
        return allowed and self._names.claim(tool, self.id)

    def _tool(self, tool: types.Tool) -> llm.Tool:
        async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> str | ToolResult:
            return await self._calls.run(
                lambda: self._connection.call(tool.name, dict(raw_arguments)),
                name=tool.name,
                definition=self._definition,
                context=context,
                filler=self._filler(),
            )

        description = tool.description or tool.title or tool.name
        schema = {"name": tool.name, "description": description, "parameters": tool.input_schema}
        return function_tool(run, raw_schema=schema)
