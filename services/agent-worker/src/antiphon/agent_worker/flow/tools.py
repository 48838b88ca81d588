"""The tools that a flow may call, by name. A new tool is one function and one entry in TOOLS."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

END_CALL: Final = "end_call"  # the tool of every agent that ends the call


def hand_off_tool(agent: str) -> str:
    """Return the name of the tool that hands the caller over to an agent."""
    return f"hand_off_to_{agent}"


class Arguments(BaseModel):
    """The arguments of a tool; the field names are slots of the flow."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its arguments, the names in its output, and the function that does the work."""

    name: str
    description: str
    arguments: type[Arguments]
    outputs: tuple[str, ...]
    run: Callable[[Any, str], Awaitable[dict[str, str]]]


class TableBooking(Arguments):
    """A table for a number of people at a time."""

    party_size: int = Field(ge=1, le=20, description="How many people.")
    day: str = Field(min_length=1, description="The day, in the caller's words.")
    time: str = Field(min_length=1, description="The time of day, HH:MM.")


async def book_table(booking: TableBooking, call_id: str) -> dict[str, str]:
    """Book a table and return its reference.

    The booking is stored in the session's log: `tool.completed` has the arguments and the reference. The
    reference is derived from the call's id, so a repeated call is the same booking.
    """
    digest = hashlib.sha256(f"{call_id}:{booking.model_dump_json()}".encode()).digest()
    return {"reference": f"T{int.from_bytes(digest[:8]) % 10_000:04}"}


TOOLS: Mapping[str, Tool] = {
    "book_table": Tool(
        name="book_table",
        description="Book a table once the caller has confirmed the party size, the day and the time.",
        arguments=TableBooking,
        outputs=("reference",),
        run=book_table,
    ),
}
