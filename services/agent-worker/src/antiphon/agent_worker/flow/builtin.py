"""The tools that agents have without a definition: hand over, transfer, end the call."""

from typing import Final

END_CALL: Final = "end_call"


def hand_off_tool(agent: str) -> str:
    """Return the name of the tool that hands the caller over to an agent."""
    return f"hand_off_to_{agent}"


def transfer_tool(person: str) -> str:
    """Return the name of the tool that transfers the caller to a person."""
    return f"transfer_to_{person}"
