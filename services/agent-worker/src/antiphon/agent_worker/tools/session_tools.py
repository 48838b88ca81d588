"""The tools of a flow during one session: what they share, opened once and closed with it."""

import asyncio
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2
from livekit.agents import RunContext, function_tool, llm
from livekit.agents.llm import ToolResult

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.check.catalog import ToolProblem
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.flow.url import InvalidUrl
from antiphon.agent_worker.tools.address import Resolve, resolve
from antiphon.agent_worker.tools.arguments import Arguments
from antiphon.agent_worker.tools.http import HttpTool
from antiphon.agent_worker.tools.http_client import open_client
from antiphon.agent_worker.tools.mcp_connection import McpConnection
from antiphon.agent_worker.tools.mcp_streams import ERROR_CHARACTERS, streams_of
from antiphon.agent_worker.tools.mcp_toolset import McpToolset, ToolNames
from antiphon.agent_worker.tools.python import PythonTool, description_of, load_function
from antiphon.agent_worker.tools.run import Calls
from antiphon.agent_worker.tools.secrets import Secrets


class SessionTools:
    """The tools of a bound flow; `bound` is the flow with them, from which agents are built.

    The MCP servers that agents use are started now, in the background. Call `close` at the end.
    """

    def __init__(
        self,
        bound: BoundFlow,
        *,
        environment: Mapping[str, str] = os.environ,
        resolve: Resolve = resolve,
        connect: bool = True,
    ) -> None:
        self.bound = replace(bound, tools=self)
        self._secrets = Secrets(environment)
        self._resolve = resolve
        self._calls = Calls(self._secrets.hide)
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self._names = ToolNames(bound.flow.tools.keys())
        self._servers = {name: self._connect(name) for name in _servers(bound)} if connect else {}

    async def __aenter__(self) -> "SessionTools":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections and the processes of MCP servers."""
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        for client in self._clients.values():
            await client.aclose()

    def stop(self) -> None:
        """Stop the calls that are running and all that follow, with an error: the call ends."""
        self._calls.stop()

    def stop_running(self, why: str) -> None:
        """Stop the calls that are running, with an error that says why: another agent takes over."""
        self._calls.stop_running(why)

    def build(self, name: str) -> llm.Tool | llm.Toolset:
        """Return a tool of the flow, or all tools of an MCP server. Raises ToolProblem."""
        definition = self.bound.flow.tools[name]
        if definition.mcp is not None:
            if name not in self._servers:
                raise ToolProblem(f"the MCP server {name!r} is not connected")
            return McpToolset(
                name,
                self._servers[name],
                definition,
                self._names,
                self._calls,
                lambda: self._filler(definition, {}),
            )
        return self._python(name, definition) if definition.http is None else self._http(name, definition)

    def _python(self, name: str, definition: ToolDefinition) -> llm.Tool:
        assert definition.python is not None
        function = load_function(definition.python)
        tool = PythonTool(function)

        async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> str | ToolResult:
            return await self._calls.run(
                lambda: tool.call(dict(raw_arguments), context),
                name=name,
                definition=definition,
                context=context,
                filler=self._filler(definition, raw_arguments),
            )

        return self._tool(run, name, definition.description or description_of(function) or name)

    def _http(self, name: str, definition: ToolDefinition) -> llm.Tool:
        request = definition.http
        assert request is not None
        tool = HttpTool(request, self._secrets, self.bound.variables)
        arguments = Arguments(self.bound.parameters[name] or {})

        async def send(given: dict[str, Any]) -> Any:
            checked = arguments.checked(given)
            client = await self._client(private=request.private)
            return await tool.call(client, checked, definition.timeout_seconds)

        async def run(raw_arguments: dict[str, object], context: RunContext[Any]) -> str | ToolResult:
            return await self._calls.run(
                lambda: send(dict(raw_arguments)),
                name=name,
                definition=definition,
                context=context,
                filler=self._filler(definition, raw_arguments),
            )

        return self._tool(run, name, definition.description or name)

    def _tool(self, run: Any, name: str, description: str) -> llm.Tool:
        parameters = dict(self.bound.parameters[name] or {})
        schema = {"name": name, "description": description, "parameters": parameters}
        tool: llm.Tool = function_tool(run, raw_schema=schema)
        return tool

    async def _client(self, *, private: bool) -> httpx2.AsyncClient:
        if private not in self._clients:
            client = await open_client(private=private, resolve=self._resolve)
            if private in self._clients:  # another call was faster
                await client.aclose()
            self._clients.setdefault(private, client)
        return self._clients[private]

    def _filler(self, definition: ToolDefinition, arguments: Mapping[str, Any]) -> str | None:
        if definition.filler is None:
            return None
        try:
            return self.bound.text(definition.filler.say, arguments)
        except KeyError:
            return None  # the model left out an argument, which the call will say

    def _connect(self, name: str) -> McpConnection:
        server = self.bound.flow.tools[name].mcp
        assert server is not None
        said: deque[str] = deque(maxlen=ERROR_CHARACTERS)
        try:
            streams = streams_of(server, self._secrets, self.bound.variables, self._resolve, said)
        except (InvalidUrl, KeyError) as error:
            raise ToolProblem(f"the MCP server {name!r} cannot be connected: {error}") from error
        return McpConnection(name, streams, said=said, hide=self._secrets.hide)


def _servers(bound: BoundFlow) -> list[str]:
    used = {tool for agent in bound.flow.agents.values() for tool in agent.tools or ()}
    return [name for name, tool in bound.flow.tools.items() if tool.mcp is not None and name in used]
