"""An MCP server made with the official SDK: `python mcp_server.py stdio` or `http PORT`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

STDOUT = 1

server = MCPServer("orders")


@server.tool()
def order(number: int) -> dict[str, Any]:
    """Look an order up."""
    return {"number": number, "state": "sent"}


@server.tool(structured_output=False)
def greet(name: str) -> str:
    """Greet a person."""
    return f"hello {name}"


@server.tool(structured_output=False)
def refuse() -> str:
    """Refuse, with the secret that it was given."""
    raise ToolError(f"no access with {os.environ.get('KEY')}")


@server.tool(structured_output=False)
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "done"


@server.tool(structured_output=False)
def huge(size: int) -> str:
    """Return a long text."""
    return "x" * size


@server.tool(structured_output=False)
def program() -> str:
    """Return where the Python that runs this is installed."""
    return sys.prefix


@server.tool(structured_output=False)
def die() -> str:
    """End the server at once."""
    os._exit(1)


if __name__ == "__main__":
    if (pids := os.environ.get("PIDS")) is not None:
        with Path(pids).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if sys.argv[1] in ("http", "json"):
        json = sys.argv[1] == "json"  # in place of a stream of events
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]), json_response=json)
    elif sys.argv[1] == "broken":
        sys.exit(f"cannot start with {os.environ.get('KEY')}")
    elif sys.argv[1] == "endless":
        while True:
            os.write(STDOUT, b"x" * 65536)
    else:
        if sys.argv[1] == "noisy":
            os.write(STDOUT, b"Starting up!\n\xff\xfe\n{}\n\n")
        server.run("stdio")
        if sys.argv[1] == "stubborn":
            asyncio.run(asyncio.sleep(600))  # the SDK's client has to end it
