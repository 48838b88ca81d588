"""Events of the conversation: turns and transcripts."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from antiphon.contracts.event import LARGEST_COUNT, Event, Family, PersonalText

Confidence = Annotated[float, Meta(ge=0, le=1)]


class TurnSaved(Event, frozen=True, kw_only=True):
    """A turn ended: what the user said and what the agent answered."""

    TYPE: ClassVar[str] = "turn.saved"
    FAMILY: ClassVar[Family] = Family.TURN

    turn: Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]
    agent_id: str
    user_text: PersonalText | None = None
    assistant_text: PersonalText | None = None
    assistant_text_generated: PersonalText | None = None
    interrupted: bool = False
    recovered: bool = False
    language: str | None = None
    confidence: Confidence | None = None
    tool_call_ids: list[str] = []
    metrics: dict[str, Any] = {}


class UserInputTranscribed(Event, frozen=True, kw_only=True):
    """The speech recogniser produced a final transcript of what the user said."""

    TYPE: ClassVar[str] = "user_input_transcribed"
    FAMILY: ClassVar[Family] = Family.TURN

    transcript: PersonalText
    language: str | None = None
    speaker_id: str | None = None
    item_id: str | None = None
