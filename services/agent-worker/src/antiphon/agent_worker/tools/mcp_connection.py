"""The connection to an MCP server for a session: it is opened again, with a backoff, when it ends."""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any

import mcp_types as types
from livekit.agents.llm import ToolError
from mcp import ClientSession, MCPError

from antiphon.agent_worker.flow.definitions import TOOL_NAME
from antiphon.agent_worker.tools.arguments import require_json
from antiphon.agent_worker.tools.mcp_process import MessageTooLarge
from antiphon.agent_worker.tools.mcp_streams import OpenStreams, Watched
from antiphon.agent_worker.tools.results import error_text
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.retry import retrying
from antiphon.chassis.shutdown import ShuttingDown, wait_or_stop

log = get_logger(__name__)

# it logs messages, which have what a caller said, and URLs, which may have secrets
logging.getLogger("mcp").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 20.0  # to start a server and read its tools: `npx` and `uvx` may install it
LONGEST_BACKOFF_SECONDS = 15.0
SETTLED_SECONDS = 5.0
PING_SECONDS = 2.0
CLOSE_SECONDS = 8.0  # the SDK gives a process 2 s to end by itself, 2 s after SIGTERM, then kills it
MOST_TOOLS = 128
_OF_THE_CALL = (types.INVALID_PARAMS, types.METHOD_NOT_FOUND)  # errors that say nothing of the connection


class ConnectionLost(Exception):
    """The server ended, or does not answer."""


class _Lost(asyncio.Event):
    """Set when a connection has ended; `why` is what the server did wrong."""

    why: str | None = None

    def for_reason(self, reason: Exception) -> None:
        if isinstance(reason, MessageTooLarge):
            self.why = str(reason)
        self.set()


class McpConnection:
    """The connection to a server, and the tools that it had when it was last reached.

    It is opened now, by a task of its own, and until `close`.
    """

    def __init__(
        self, name: str, open_streams: OpenStreams, *, said: deque[str], hide: Callable[[str], str]
    ) -> None:
        self.name = name
        self.tools: list[types.Tool] = []
        self._open_streams = open_streams
        self._said = said
        self._hide = hide
        self._session: ClientSession | None = None
        self._lost = _Lost()
        self._listed = asyncio.Event()
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        self._task = BackgroundTask(self._stay_connected, name=f"mcp {name}")

    @property
    def connected(self) -> bool:
        """Whether calls can be made."""
        return self._session is not None

    async def wait_listed(self, seconds: float) -> bool:
        """Wait until the tools are known, at most some seconds; return whether they are."""
        try:
            async with asyncio.timeout(seconds):
                await self._listed.wait()
        except TimeoutError:
            log.warning("tool.mcp_slow", extra={"server": self.name, "seconds": seconds})
        return self._listed.is_set()

    async def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Call a tool and return its result. Raises ToolError; the time limit is the caller's."""
        require_json(arguments)  # a message that cannot be written would end the connection
        session = self._session
        if session is None:
            raise ToolError(f"{self.name} cannot be reached now")
        lost = self._lost
        try:
            result = await session.call_tool(tool, arguments)
        except MCPError as error:
            if error.code not in _OF_THE_CALL and not await _answers(session):
                lost.set()
                raise ToolError(f"{self.name} {lost.why or 'cannot be reached now'}") from None
            raise ToolError(f"{self.name} refused the call: {error.message}") from None
        if result.is_error:
            raise ToolError(_text(result) or f"{self.name} reports an error")
        return result.structured_content if result.structured_content is not None else _text(result)

    async def close(self) -> None:
        """End the connection, and the server's process if it has one."""
        self._closing.set()
        self._lost.set()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ended.wait()  # not cancelled: that could leave the process behind
        except TimeoutError:
            log.error("tool.mcp_not_closed", extra={"server": self.name})  # noqa: TRY400 - no traceback
        await self._task.close()

    async def _stay_connected(self) -> None:
        connect = retrying(
            Exception,
            on_retry=self._log_retry,
            stop=self._closing,
            longest_seconds=LONGEST_BACKOFF_SECONDS,
            settled_seconds=SETTLED_SECONDS,
        )
        try:
            await connect(self._connect)
        except ShuttingDown:
            log.debug("tool.mcp_closed", extra={"server": self.name})
        finally:
            self._ended.set()

    async def _connect(self) -> None:
        lost = _Lost()
        self._said.clear()
        try:
            async with (
                self._open_streams() as (read, write),
                ClientSession(Watched(read, lost.for_reason), write) as session,
            ):
                async with asyncio.timeout(CONNECT_SECONDS):
                    self.tools = await wait_or_stop(_handshake(session), self._closing)
                self._lost, self._session = lost, session
                self._listed.set()
                log.info("tool.mcp_connected", extra={"server": self.name, "tools": len(self.tools)})
                if not self._closing.is_set():
                    await lost.wait()
                    self._session = None  # its process may take seconds to end
        except Exception:  # also in a group, of which `_log_retry` says the first
            if self._closing.is_set():
                return
            if lost.why is None:
                raise
        finally:
            self._session = None
        if not self._closing.is_set():
            raise ConnectionLost(f"the server {lost.why}" if lost.why else "the connection ended")

    def _log_retry(self, error: BaseException, attempt: int) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        extra: dict[str, Any] = {"server": self.name, "attempt": attempt}
        extra["error"] = self._hide(error_text(repr(error)))
        if not self._listed.is_set():  # later it may have what a caller said
            extra["stderr"] = self._hide(error_text("".join(self._said)))
        log.warning("tool.mcp_lost", extra=extra)


async def _handshake(session: ClientSession) -> list[types.Tool]:
    await session.initialize()
    tools: list[types.Tool] = []
    cursor: str | None = None
    while len(tools) < MOST_TOOLS:
        page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
        tools += [tool for tool in page.tools if re.fullmatch(TOOL_NAME, tool.name)]
        cursor = page.next_cursor
        if not cursor:
            break
    return tools[:MOST_TOOLS]


async def _answers(session: ClientSession) -> bool:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await session.send_ping()
    except (MCPError, TimeoutError):
        return False
    return True


def _text(result: types.CallToolResult) -> str:
    parts = []
    for block in result.content:
        if isinstance(block, types.TextContent):
            parts.append(block.text)
        elif isinstance(block, types.EmbeddedResource) and isinstance(
            block.resource, types.TextResourceContents
        ):
            parts.append(block.resource.text)
        else:
            parts.append(json.dumps({"type": block.type}))  # an image or a sound, which no text can carry
    return "\n".join(parts)
