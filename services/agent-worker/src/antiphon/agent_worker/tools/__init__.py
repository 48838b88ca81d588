"""The tools of a flow: Python functions, HTTP requests, MCP servers."""
