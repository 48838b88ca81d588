"""The names of the tools that every flow has, as the model calls them."""

from typing import Final

END_CALL: Final = "end_call"


def hand_off_tool(agent: str) -> str:
    """Name the tool that hands the caller over to an agent."""
    return f"hand_off_to_{agent}"
