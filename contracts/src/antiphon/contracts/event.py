"""The base class of events, their families, and field types that events share."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct


class Family(StrEnum):
    """The last token of an event's subject, which subscribers can filter by."""

    SESSION = "session"
    AGENT = "agent"
    TURN = "turn"
    TOOL = "tool"
    PARTICIPANT = "participant"
    MEDIA = "media"
    USAGE = "usage"
    COMMAND = "command"
    LIVEKIT = "livekit"


class Event(Struct, frozen=True, kw_only=True):
    """The body of one event; producer, time and session are in the envelope."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    FAMILY: ClassVar[Family]


# Personal data: marked `x-pii` in schemas, never logged, found by erasure.
PersonalText = Annotated[str, Meta(extra_json_schema={"x-pii": True})]
MaybePersonalText = Annotated[str | None, Meta(extra_json_schema={"x-pii": True})]
PersonalMap = Annotated[dict[str, Any], Meta(extra_json_schema={"x-pii": True})]

LARGEST_COUNT = 2**31 - 1  # the largest value of an `integer` column in Postgres
Count = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Bytes = Annotated[int, Meta(ge=0, description="bytes")]
Seconds = Annotated[float, Meta(ge=0, description="seconds")]
Milliseconds = Annotated[float, Meta(ge=0, description="milliseconds")]
