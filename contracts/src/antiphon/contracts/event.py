"""What every event of the catalogue is made of."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct


class Family(StrEnum):
    """The last token of an event's subject: what a subscriber can filter by."""

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
    """Hold the body of one event; the envelope carries who, when and where."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    FAMILY: ClassVar[Family]


# Personal content: schemas mark it `x-pii`, logs never print it, erasure looks for it.
PersonalText = Annotated[str, Meta(extra_json_schema={"x-pii": True})]
PersonalMap = Annotated[dict[str, Any], Meta(extra_json_schema={"x-pii": True})]

LARGEST_COUNT = 2**31 - 1  # what an integer column of a view holds
Count = Annotated[int, Meta(ge=0, le=LARGEST_COUNT)]
Bytes = Annotated[int, Meta(ge=0, description="bytes")]
Seconds = Annotated[float, Meta(ge=0, description="seconds")]
Milliseconds = Annotated[float, Meta(ge=0, description="milliseconds")]
