"""The MCP server of support.yaml, with the official SDK: `python customers.py` speaks on standard input."""

from mcp.server.mcpserver import MCPServer

CUSTOMERS = {"ada": {"name": "Ada Lovelace", "plan": "team", "seats": 12}}

server = MCPServer("customers")


@server.tool()
def find_customer(name: str) -> dict[str, object]:
    """Find a customer by the first name: the full name, the plan and the number of seats."""
    return dict(CUSTOMERS.get(name.strip().lower(), {}))


@server.tool()
def note(name: str, text: str) -> str:
    """Note something about a customer, for the next person who talks with them."""
    return f"noted for {name}: {text}"


if __name__ == "__main__":
    server.run("stdio")
