"""An example of a tool in Python: keep the answers of a survey."""

from typing import Annotated, Any, Literal

from livekit.agents import RunContext, function_tool
from pydantic import Field


@function_tool
async def save_answers(
    context: RunContext[Any],
    food: Annotated[int, Field(ge=1, le=5, description="How the guest liked the food, in points.")],
    again: Annotated[Literal["yes", "maybe", "no"], Field(description="Whether the guest comes again.")],
    reason: Annotated[str, Field(min_length=1, description="What could be better, in the guest's words.")],
) -> dict[str, str]:
    """Save the answers once the guest has given all of them.

    The answers are stored in the session's log: `tool.completed` has them.
    """
    del context, food, again, reason
    return {"status": "saved"}
