"""The tools that a flow may call, by name. A new tool is one function and one line in TOOLS."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Arguments(BaseModel):
    """What a tool is given; the field names are the flow's slots."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its arguments, the names in its output, and the work itself."""

    name: str
    description: str
    arguments: type[Arguments]
    outputs: tuple[str, ...]
    run: Callable[[Any, str], Awaitable[dict[str, str]]]


class TableBooking(Arguments):
    """A table for some people at some time."""

    party_size: int = Field(ge=1, le=20, description="How many people.")
    day: str = Field(min_length=1, description="The day, in the caller's words.")
    time: str = Field(min_length=1, description="The time of day, HH:MM.")


async def book_table(booking: TableBooking, call_id: str) -> dict[str, str]:
    """Book a table and return its reference.

    The booking's home is the session's log: `tool.completed` carries the arguments and this reference. The
    reference follows from the call's id, so a repeated call is the same booking and not a second one.
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
