"""An example of a tool in Python: book a table at a restaurant."""

import hashlib
import json
from typing import Annotated, Any

from livekit.agents import RunContext, function_tool
from pydantic import Field


@function_tool
async def book_table(
    context: RunContext[Any],
    party_size: Annotated[int, Field(ge=1, le=20, description="How many people.")],
    day: Annotated[str, Field(min_length=1, description="The day, in the caller's words.")],
    time: Annotated[str, Field(min_length=1, description="The time of day, HH:MM.")],
) -> dict[str, str]:
    """Book a table once the caller has confirmed the party size, the day and the time.

    The booking is stored in the session's log: `tool.completed` has the arguments and the reference. The
    reference is derived from the call's id, so a repeated call is the same booking.
    """
    booking = json.dumps({"party_size": party_size, "day": day, "time": time}, separators=(",", ":"))
    digest = hashlib.sha256(f"{context.function_call.call_id}:{booking}".encode()).digest()
    return {"reference": f"T{int.from_bytes(digest[:8]) % 10_000:04}"}
