"""The turns of a conversation. Pure: messages and speeches go in, finished turns come out.

A turn is one utterance of the user and all answers of the agent to it, including tools and handoffs. It ends
when the last speech that answers it has ended. Speech before the first utterance is the greeting and not a
turn; unprompted speech later is a turn without user text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from antiphon.contracts.events.turn import TurnSaved

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


Finished = TurnSaved | Greeting


@dataclass(slots=True)
class _Turn:
    agent_id: str
    utterance: Utterance | None = None
    answers: list[Answer] = field(default_factory=list)
    speeches: list[str] = field(default_factory=list)  # all that answered, in order
    running: set[str] = field(default_factory=set)  # those that have not ended
    handoffs: int = 0  # in progress: the next agent may speak
    interrupted: bool = False
    tool_call_ids: list[str] = field(default_factory=list)
    is_greeting: bool = False

    @property
    def ended(self) -> bool:
        return not self.running and not self.handoffs


class TurnTracker:
    """The open turn. Methods that can finish it return what they finished, in order."""

    def __init__(self) -> None:
        self.saved = 0
        self._open: _Turn | None = None
        self._turns: dict[str, _Turn] = {}  # by speech, while either lasts
        self._generated: dict[str, list[str]] = {}  # text by speech
        self._greeting_over = False

    def speech_started(self, speech: str, *, parent: str | None = None, is_reply: bool = False) -> None:
        """Assign a speech to the open turn if a tool or the next agent created it during `parent`.

        A reply belongs to the utterance that it answers and not to its parent.
        """
        turn = self._turns.get(parent) if parent and not is_reply else None
        if turn is not None and turn is self._open:
            self._assign(speech, turn)

    def text_generated(self, speech: str, text: str) -> None:
        """Add a piece of text that the agent intends to say."""
        self._generated.setdefault(speech, []).append(text)

    def user_said(self, speech: str | None, agent_id: str, utterance: Utterance) -> list[Finished]:
        """Open a turn; `speech` will answer it, None if none will."""
        finished = self._finish_open()
        self._greeting_over = True
        turn = self._open = _Turn(agent_id, utterance=utterance)
        if speech is not None:
            self._assign(speech, turn)
        return finished + self._finish_ended()

    def agent_said(self, speech: str | None, agent_id: str, answer: Answer) -> list[Finished]:
        """Add an answer to the open turn, or open a turn without user text."""
        turn = self._open
        if turn is None:
            turn = self._open = _Turn(agent_id, is_greeting=not self._greeting_over)
            self._greeting_over = True
            if speech is not None:
                self._assign(speech, turn)
        turn.answers.append(answer)
        return self._finish_ended()

    def tool_called(self, call_id: str) -> None:
        """Add a tool call to the open turn."""
        if self._open is not None and call_id not in self._open.tool_call_ids:
            self._open.tool_call_ids.append(call_id)

    def handoff_started(self) -> None:
        """Keep the turn open: another agent takes over and may speak."""
        if self._open is not None:
            self._open.handoffs += 1

    def handoff_finished(self) -> list[Finished]:
        """End a handoff: the next agent has taken over, and its first speech, if any, has started."""
        if self._open is not None and self._open.handoffs:
            self._open.handoffs -= 1
        return self._finish_ended()

    def speech_finished(self, speech: str, *, interrupted: bool = False) -> list[Finished]:
        """Mark a speech as over, whether or not it was played."""
        turn = self._turns.get(speech)
        if turn is None or turn is not self._open:
            self._forget(speech)
            return []
        turn.interrupted = turn.interrupted or interrupted
        turn.running.discard(speech)
        return self._finish_ended()

    def close(self) -> list[Finished]:
        """Finish the open turn as it is."""
        return self._finish_open()

    def _assign(self, speech: str, turn: _Turn) -> None:
        self._turns[speech] = turn
        turn.running.add(speech)
        if speech not in turn.speeches:
            turn.speeches.append(speech)

    def _forget(self, speech: str) -> None:
        self._turns.pop(speech, None)
        self._generated.pop(speech, None)

    def _finish_ended(self) -> list[Finished]:
        return self._finish_open() if self._open is not None and self._open.ended else []

    def _finish_open(self) -> list[Finished]:
        turn, self._open = self._open, None
        if turn is None:
            return []
        pieces = ["".join(self._generated.pop(speech, [])).strip() for speech in turn.speeches]
        for speech in set(turn.speeches) - turn.running:
            self._forget(speech)
        spoken = _join([answer.text for answer in turn.answers])
        generated = _join(pieces) or spoken
        if turn.is_greeting:
            return [Greeting(generated or "")]
        self.saved += 1
        return [_turn_saved(turn, self.saved, spoken, generated)]


def _turn_saved(turn: _Turn, number: int, spoken: str | None, generated: str | None) -> TurnSaved:
    return TurnSaved(
        turn=number,
        agent_id=turn.agent_id,
        user_text=turn.utterance.text if turn.utterance else None,
        assistant_text=spoken,
        assistant_text_generated=generated,
        interrupted=turn.interrupted or any(answer.interrupted for answer in turn.answers),
        language=turn.utterance.language if turn.utterance else None,
        confidence=turn.utterance.confidence if turn.utterance else None,
        tool_call_ids=turn.tool_call_ids,
        metrics=_merge_metrics(turn),
    )


def _join(texts: list[str]) -> str | None:
    return " ".join(text for text in texts if text) or None


def _merge_metrics(turn: _Turn) -> dict[str, object]:
    """Return LiveKit's metrics of all messages of a turn; of several answers, the first one's figures."""
    metrics: dict[str, object] = {}
    if turn.utterance is not None:
        for name, value in turn.utterance.metrics.items():
            metrics[f"user_{name}" if name in _SPOKEN_AT else name] = _to_json(value)
    for answer in turn.answers:
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
