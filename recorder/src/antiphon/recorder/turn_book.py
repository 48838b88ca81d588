"""The turns of a conversation, told from what happens in it. Pure: facts go in, finished turns come out.

A turn is one utterance of the user and everything that the agent answers to it, tools and hand-offs included.
It ends when the last speech that answers it has ended. What the agent says first, before the user has said
anything, is the greeting and no turn; what it says unasked later is a turn without a user's text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.turn_metrics import merge_agent, merge_user


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the user said."""

    text: str
    language: str | None = None
    confidence: float | None = None
    metrics: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent said, as far as it was heard."""

    text: str
    interrupted: bool = False
    metrics: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the agent said before anybody had spoken to it."""

    text: str


Finished = TurnSaved | Greeting


@dataclass(slots=True)
class _Turn:
    agent_id: str
    asked: Utterance | None = None
    answers: list[Answer] = field(default_factory=list)
    speeches: list[str] = field(default_factory=list)  # all that answered, in order
    running: set[str] = field(default_factory=set)  # those that have not ended
    hand_offs: int = 0  # under way: the next agent may speak
    interrupted: bool = False
    tool_call_ids: list[str] = field(default_factory=list)
    greeting: bool = False

    @property
    def ended(self) -> bool:
        return not self.running and not self.hand_offs


class TurnBook:
    """Keep the open turn. Each fact returns what it has finished, in order."""

    def __init__(self) -> None:
        self.saved = 0
        self._open: _Turn | None = None
        self._turns: dict[str, _Turn] = {}  # by speech, for as long as either lasts
        self._waiting: set[str] = set()  # speeches that belong to no turn yet
        self._generated: dict[str, list[str]] = {}
        self._greeted = False

    def speech_began(self, speech: str, *, within: str | None = None, reply: bool = False) -> None:
        """Note that the agent is about to speak: as the `reply` to an utterance, or of the flow's own accord.

        `within` is the speech in whose course it did: a tool or the next agent speaks in the same turn.
        """
        turn = self._turns.get(within) if within and not reply else None
        if turn is not None and turn is self._open:
            self._join(turn, speech)
        else:
            self._waiting.add(speech)

    def generated(self, speech: str, text: str) -> None:
        """Note a piece of what the model wants to say."""
        self._generated.setdefault(speech, []).append(text)

    def user_said(self, speech: str | None, agent_id: str, utterance: Utterance) -> list[Finished]:
        """Open a turn with what the user said; `speech` is the one that will answer, None if none will."""
        finished = self._finish_open()
        self._greeted = True  # whoever is spoken to first has no more greeting to give
        turn = self._open = _Turn(agent_id, asked=utterance)
        if speech is not None:
            self._join(turn, speech)
        return finished + self._finish_ended()

    def agent_said(self, speech: str | None, agent_id: str, answer: Answer) -> list[Finished]:
        """Add what was heard of the agent to the open turn, or open one that nobody asked for."""
        turn = self._open
        if turn is None:
            turn = self._open = _Turn(agent_id, greeting=not self._greeted)
            self._greeted = True
            if speech is not None:
                self._join(turn, speech)
        turn.answers.append(answer)
        return self._finish_ended()

    def tool_called(self, call_id: str) -> None:
        """Note that the open turn called a tool."""
        if self._open is not None and call_id not in self._open.tool_call_ids:
            self._open.tool_call_ids.append(call_id)

    def hand_off_began(self) -> None:
        """Keep the turn open: another agent takes over, and may speak."""
        if self._open is not None:
            self._open.hand_offs += 1

    def hand_off_ended(self) -> list[Finished]:
        """Note that the next agent has taken over and has begun to say what it wants to say."""
        if self._open is not None and self._open.hand_offs:
            self._open.hand_offs -= 1
        return self._finish_ended()

    def speech_ended(self, speech: str, *, interrupted: bool = False) -> list[Finished]:
        """Note that a speech is over, heard or not."""
        self._waiting.discard(speech)
        turn = self._turns.get(speech)
        if turn is None or turn is not self._open:
            self._forget(speech)
            return []
        turn.interrupted = turn.interrupted or interrupted
        turn.running.discard(speech)
        return self._finish_ended()

    def close(self) -> list[Finished]:
        """Finish the open turn as it is: there will be no more."""
        return self._finish_open()

    def _join(self, turn: _Turn, speech: str) -> None:
        self._waiting.discard(speech)
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
        heard = _joined([answer.text for answer in turn.answers])
        generated = _joined(pieces) or heard
        if turn.greeting:
            return [Greeting(generated or "")]
        self.saved += 1
        return [_saved(turn, self.saved, heard, generated)]


def _saved(turn: _Turn, number: int, heard: str | None, generated: str | None) -> TurnSaved:
    metrics: dict[str, object] = {}
    if turn.asked is not None:
        merge_user(metrics, turn.asked.metrics)
    for answer in turn.answers:
        merge_agent(metrics, answer.metrics)
    return TurnSaved(
        turn=number,
        agent_id=turn.agent_id,
        user_text=turn.asked.text if turn.asked else None,
        assistant_text=heard,
        assistant_text_generated=generated,
        interrupted=turn.interrupted or any(answer.interrupted for answer in turn.answers),
        language=turn.asked.language if turn.asked else None,
        confidence=turn.asked.confidence if turn.asked else None,
        tool_call_ids=turn.tool_call_ids,
        metrics=metrics,
    )


def _joined(texts: list[str]) -> str | None:
    return " ".join(text for text in texts if text) or None
