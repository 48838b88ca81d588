"""Events of the conversation: turns and transcripts."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from antiphon.contracts.event import LARGEST_COUNT, Event, Family, PersonalText, Seconds

Confidence = Annotated[float, Meta(ge=0, le=1)]
TurnNumber = Annotated[int, Meta(ge=1, le=LARGEST_COUNT)]


class TurnStarted(Event, frozen=True, kw_only=True):
    """A turn began: the user has spoken or typed, or the agent speaks unprompted.

    Its `turn.saved` has the same epoch and number.
    """

    TYPE: ClassVar[str] = "turn.started"
    FAMILY: ClassVar[Family] = Family.TURN

    turn: TurnNumber
    epoch: str
    agent_id: str
    user_text: PersonalText | None = None
    input: Literal["voice", "text"] | None = None
    language: str | None = None
    confidence: Confidence | None = None


class TurnSaved(Event, frozen=True, kw_only=True):
    """A turn ended: what the user said and what the agent answered.

    Numbers are unique per epoch, the job id of the agent. `recovered` marks a turn whose agent was killed:
    another process completed it from the journal. `agent_id` is who was heard last, so after a hand-off the
    agent that took over, or who was in charge at the start if nobody was heard.
    """

    TYPE: ClassVar[str] = "turn.saved"
    FAMILY: ClassVar[Family] = Family.TURN

    turn: TurnNumber
    epoch: str | None = None
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


class AgentFalseInterruption(Event, frozen=True, kw_only=True):
    """The agent stopped for a sound that was no interruption; `resumed` tells whether it spoke on."""

    TYPE: ClassVar[str] = "agent_false_interruption"
    FAMILY: ClassVar[Family] = Family.TURN

    resumed: bool


class OverlappingSpeech(Event, frozen=True, kw_only=True):
    """The user spoke while the agent was speaking."""

    TYPE: ClassVar[str] = "overlapping_speech"
    FAMILY: ClassVar[Family] = Family.TURN

    is_interruption: bool
    agent_ended: bool = False
    detection_delay: Seconds | None = None
    overlap_started_at: datetime | None = None
