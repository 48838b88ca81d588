"""Events of tool calls."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from antiphon.contracts.event import Event, Family, PersonalText, Seconds


class ToolStarted(Event, frozen=True, kw_only=True):
    """The agent called a tool."""

    TYPE: ClassVar[str] = "tool.started"
    FAMILY: ClassVar[Family] = Family.TOOL

    call_id: str
    name: str
    arguments: PersonalText


class ToolCompleted(Event, frozen=True, kw_only=True):
    """A tool call returned, failed or was cancelled."""

    TYPE: ClassVar[str] = "tool.completed"
    FAMILY: ClassVar[Family] = Family.TOOL

    call_id: str
    name: str
    status: Literal["done", "error", "cancelled"]
    output: PersonalText | None = None
    duration_seconds: Seconds | None = None
    personal: Annotated[
        bool | None, Meta(description="whether the tool is marked as one whose result is personal data")
    ] = None
