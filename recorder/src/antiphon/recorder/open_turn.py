"""One turn while it is open: its speeches, its texts, and the events that start and save it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from numbers import Real
from typing import Any, Literal

from antiphon.contracts.events.turn import TurnSaved, TurnStarted

_SPOKEN_AT = ("started_speaking_at", "stopped_speaking_at")  # of both sides: prefixed
_LAST_COUNTS = "agent_stopped_speaking_at"
_LISTS = "provider_request_ids"


@dataclass(frozen=True, slots=True)
class Utterance:
    """A message of the user."""

    text: str
    language: str | None = None
    confidence: float | None = None
    metrics: Mapping[str, object] = field(default_factory=dict)
    input: Literal["voice", "text"] = "voice"


@dataclass(frozen=True, slots=True)
class Answer:
    """A message of the agent, up to an interruption."""

    text: str
    interrupted: bool = False
    metrics: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Greeting:
    """The speech of the agent before the first utterance."""

    text: str


class Wait(Enum):
    """What an open turn waits for besides the end of its speeches."""

    ANSWER = auto()  # the user's message has come without a speech
    TRANSCRIPT = auto()  # a speech-to-speech model answers before the user's words are known
    TOOL_REPLY = auto()  # the model will answer its tool's output by a speech of its own


@dataclass(slots=True)
class GeneratedText:
    """What the agent intended to say up to one of its answers; `order` is that of its beginning."""

    order: int
    pieces: list[str] = field(default_factory=list)
    answered: bool = False


@dataclass(slots=True, eq=False)
class Speech:
    """A speech, and the open turn that it is a part of."""

    id: str
    turn: "OpenTurn | None" = None
    agent_id: str | None = None  # that speaks, once it has begun
    is_settled: bool = False  # it cannot move to another turn: it has begun, or answers a message
    done: bool = False
    is_answered: bool = False  # its last text was said to the end, or up to an interruption
    generated: list[GeneratedText] = field(default_factory=list)
    heard: str = ""  # by the user, since its last answer


@dataclass(slots=True, eq=False)
class OpenTurn:
    """A turn in progress; without a number it is the greeting.

    `agent_id` is who was in charge at its start, and then who spoke last in it.
    """

    number: int | None
    epoch: str
    agent_id: str
    utterance: Utterance | None = None
    answers: list[Answer] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)  # in order
    waits: set[Wait] = field(default_factory=set)
    handoffs: int = 0  # in progress: the next agent may speak
    interrupted: bool = False
    tool_call_ids: list[str] = field(default_factory=list)
    changes: int = 0  # raised by every change that a note would show

    @property
    def is_speaking(self) -> bool:
        """Whether a speech of the turn has not ended."""
        return not all(speech.done for speech in self.speeches)

    @property
    def ended(self) -> bool:
        """Whether nothing more can belong to the turn."""
        return not (self.waits or self.handoffs or self.is_speaking)

    def started(self) -> TurnStarted:
        """Return the event that starts the turn, with what is known of the user's words."""
        utterance = self.utterance
        unknown: Literal["voice"] | None = "voice" if Wait.TRANSCRIPT in self.waits else None
        return TurnStarted(
            turn=self.number or 0,
            epoch=self.epoch,
            agent_id=self.agent_id,
            user_text=utterance.text if utterance else None,
            input=utterance.input if utterance else unknown,
            language=utterance.language if utterance else None,
            confidence=utterance.confidence if utterance else None,
        )

    def finished(self) -> TurnSaved | Greeting:
        """Return the event that saves the turn, or the greeting."""
        if self.number is not None:
            return self.saved()
        return Greeting(self._generated or _join(answer.text for answer in self.answers) or "")

    def saved(self, *, recovered: bool = False) -> TurnSaved:
        """Return the turn as it is now; `recovered` if it is to be published only by another process."""
        utterance = self.utterance
        answered = [answer.text for answer in self.answers]
        spoken = _join([*answered, *(speech.heard.strip() for speech in self.speeches)])
        return TurnSaved(
            turn=self.number or 0,
            epoch=self.epoch,
            agent_id=self.agent_id,
            user_text=utterance.text if utterance else None,
            assistant_text=spoken,
            assistant_text_generated=self._generated or spoken,
            interrupted=self.interrupted or any(answer.interrupted for answer in self.answers),
            recovered=recovered,
            language=utterance.language if utterance else None,
            confidence=utterance.confidence if utterance else None,
            tool_call_ids=list(self.tool_call_ids),
            metrics=_merge_metrics(utterance, self.answers),
        )

    @property
    def _generated(self) -> str | None:
        texts = [text for speech in self.speeches for text in speech.generated]
        texts.sort(key=lambda text: text.order)
        return _join("".join(text.pieces).strip() for text in texts)


def _join(texts: Any) -> str | None:
    return " ".join(text for text in texts if text) or None


def _merge_metrics(utterance: Utterance | None, answers: list[Answer]) -> dict[str, object]:
    """Return LiveKit's metrics of all messages of a turn; of several answers, the first one's figures."""
    metrics: dict[str, object] = {}
    if utterance is not None:
        for name, value in utterance.metrics.items():
            metrics[f"user_{name}" if name in _SPOKEN_AT else name] = _to_json(value)
    for answer in answers:
        for name, value in answer.metrics.items():
            _add_agent_metric(metrics, f"agent_{name}" if name in _SPOKEN_AT else name, value)
    return metrics


def _add_agent_metric(metrics: dict[str, object], name: str, value: object) -> None:
    known = metrics.get(name)
    if name == _LISTS and isinstance(known, list) and isinstance(value, list):
        metrics[name] = known + _to_json(value)
    elif name == _LAST_COUNTS or known is None:
        metrics[name] = _to_json(value)


def _to_json(value: Any) -> Any:
    """Return a value as JSON can hold it: providers put any object into their metrics."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Real):  # numpy's floats too
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    return str(value)
