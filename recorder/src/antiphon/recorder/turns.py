"""The turns of a conversation. Pure: facts about speeches and messages go in, events of turns come out.

A turn is one utterance of the user and all answers of the agent to it, including tools and handoffs. Every
fact belongs to a speech and so to that speech's turn. Several turns can be open; each ends when the last of
its own speeches has ended. Speech before the first utterance is the greeting and not a turn; unprompted
speech later is a turn without user text. Turns are numbered in the order in which they start.
"""

from dataclasses import replace

from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder.open_turn import Answer, GeneratedText, Greeting, OpenTurn, Speech, Utterance, Wait

Fact = TurnStarted | TurnSaved | Greeting


class TurnTracker:
    """The open turns. Methods that can start or finish one return its events, in order."""

    def __init__(self, epoch: str) -> None:
        self.saved = 0
        self._epoch = epoch
        self._started = 0
        self._texts = 0
        self._open: list[OpenTurn] = []  # in the order of their start
        self._speeches: dict[str, Speech] = {}  # running, or a part of an open turn
        self._agent_has_spoken = False

    @property
    def open_turns(self) -> list[OpenTurn]:
        """The turns that have started and not ended."""
        return [turn for turn in self._open if turn.number is not None]

    @property
    def is_greeting(self) -> bool:
        """Whether the greeting has begun and not ended."""
        return any(turn.number is None for turn in self._open)

    def speech_created(self, speech: str, *, parent: str | None = None, awaits_message: bool = False) -> None:
        """Expect a speech. A tool or the next agent that made it during `parent` speaks in that one's turn.

        Of a reply that awaits the user's message, the message opens the turn.
        """
        created = self._speech(speech)
        origin = self._speeches.get(parent) if parent else None
        if origin is not None and origin.turn is not None and not awaits_message:
            self._assign(created, origin.turn)

    def reply_created(self, speech: str, agent_id: str, *, transcribed: bool) -> list[Fact]:
        """Open the turn of a speech-to-speech model's reply; the user's words may not be known yet.

        A reply to a tool's output, or to words already known, joins their turn. Without `transcribed`, no
        transcript is to be expected.
        """
        reply = self._speech(speech)
        reply.is_settled = True
        for wait in (Wait.TOOL_REPLY, Wait.ANSWER):
            if (turn := self._waiting(wait)) is not None:
                self._assign(reply, turn)
                turn.waits.discard(wait)
                return []
        turn = self._new_turn(agent_id, waits={Wait.TRANSCRIPT} if transcribed else set())
        self._assign(reply, turn)
        return [turn.started()]

    def text_generated(self, speech: str, text: str) -> None:
        """Add a piece of text that the agent intends to say."""
        known = self._speeches.get(speech)
        if known is None:
            return
        if not known.generated or known.generated[-1].answered:
            self._texts += 1
            known.generated.append(GeneratedText(self._texts))
        known.generated[-1].pieces.append(text)
        known.is_answered = False
        _changed(known.turn)

    def text_heard(self, speech: str, text: str) -> None:
        """Set what the user has heard of a speech since its last answer."""
        known = self._speeches.get(speech)
        if known is not None and known.heard != text:
            known.heard = text
            _spoke(known, text)

    def user_said(
        self, speech: str | None, agent_id: str, utterance: Utterance, *, continues: bool = False
    ) -> list[Fact]:
        """Start a turn that `speech` answers.

        Without a speech of its own, the message belongs to the running reply that has none, else it starts a
        turn that stays open for the next reply. `continues` adds it to a message that is not answered yet.
        """
        reply = self._speeches.get(speech) if speech else None
        if reply is not None and not reply.is_settled:
            facts = self._leave_turn(reply)
            facts += self._finish_unanswered()
            turn = self._new_turn(agent_id, utterance=utterance)
            reply.is_settled = True
            self._assign(reply, turn)
            return [*facts, turn.started()]
        if utterance.input == "voice" and (late := self._waiting(Wait.TRANSCRIPT)) is not None:
            late.utterance = utterance
            late.waits.discard(Wait.TRANSCRIPT)
            _changed(late)
            return self._finish_if_ended(late)
        unanswered = self._waiting(Wait.ANSWER)
        if continues and unanswered is not None and unanswered.utterance is not None:
            earlier = unanswered.utterance
            unanswered.utterance = replace(earlier, text=f"{earlier.text} {utterance.text}")
            _changed(unanswered)
            return []
        facts = self._finish_unanswered()
        turn = self._new_turn(agent_id, utterance=utterance, waits={Wait.ANSWER})
        return [*facts, turn.started()]

    def speech_began(self, speech: str, agent_id: str) -> list[Fact]:
        """Note that a speech is heard or calls a tool; it starts a turn if it is unprompted."""
        known = self._speech(speech)
        known.is_settled = True
        known.agent_id = known.agent_id or agent_id
        if known.turn is not None or known.done:
            return []
        facts: list[Fact] = []
        turn = self._waiting(Wait.ANSWER)
        if turn is None:
            turn = self._new_turn(agent_id, is_unprompted=True)
            facts = [turn.started()] if turn.number is not None else []
        turn.waits.discard(Wait.ANSWER)
        self._assign(known, turn)
        return facts

    def agent_said(self, speech: str | None, agent_id: str, answer: Answer) -> list[Fact]:
        """Add an answer to the turn of its speech; an answer of no known speech ends its turn at once."""
        anonymous = speech is None
        known = self._speech(speech or "")
        facts = self.speech_began(known.id, agent_id)
        known.heard = ""
        known.is_answered = True
        if known.generated:
            known.generated[-1].answered = True
        if known.turn is not None:
            known.turn.answers.append(answer)
            _spoke(known, answer.text)
        return facts + self.speech_finished(known.id) if anonymous else facts

    def tool_called(self, speech: str | None, agent_id: str, call_id: str) -> list[Fact]:
        """Add a tool call to the turn of its speech."""
        if speech is None:  # the best guess without LiveKit's context
            turn, facts = (self._open[-1] if self._open else None), []
        else:
            facts = self.speech_began(speech, agent_id) if speech in self._speeches else []
            turn = self._turn_of(speech)
        if turn is not None and call_id not in turn.tool_call_ids:
            turn.tool_call_ids.append(call_id)
            _changed(turn)
        return facts

    def tool_reply_expected(self, speech: str | None) -> None:
        """Keep a turn open: its model will answer the tool's output by another speech."""
        if (turn := self._turn_of(speech)) is not None:
            turn.waits.add(Wait.TOOL_REPLY)

    def handoff_started(self, speech: str | None) -> None:
        """Keep a turn open: another agent takes over and may speak."""
        if (turn := self._turn_of(speech)) is not None:
            turn.handoffs += 1

    def handoff_finished(self, speech: str | None) -> list[Fact]:
        """End a handoff: the next agent has taken over, and its first speech, if any, has been created."""
        turn = self._turn_of(speech)
        if turn is None or not turn.handoffs:
            return []
        turn.handoffs -= 1
        return self._finish_if_ended(turn)

    def speech_finished(
        self, speech: str, *, interrupted: bool = False, was_scheduled: bool = True
    ) -> list[Fact]:
        """Mark a speech as over, whether or not it was played.

        One that was never scheduled is a preemptive generation that LiveKit discarded: it leaves nothing.
        """
        known = self._speeches.get(speech)
        if known is None:
            return []
        known.done = True
        turn = known.turn
        if turn is None:
            del self._speeches[speech]
            return []
        if not (was_scheduled or known.is_settled):
            return self._leave_turn(known)
        # what ends a speech after its answer, such as a tool that deletes the room, interrupts nothing
        turn.interrupted = turn.interrupted or (interrupted and not known.is_answered)
        if known.heard.strip():  # LiveKit adds no message for it, such as by `add_to_chat_ctx=False`
            turn.answers.append(Answer(known.heard.strip(), interrupted))
            known.heard = ""
        _changed(turn)
        return self._finish_if_ended(turn)

    def stop_waiting(self, turn: OpenTurn) -> list[Fact]:
        """Finish a turn without the transcript or tool reply that it waits for."""
        turn.waits -= {Wait.TRANSCRIPT, Wait.TOOL_REPLY}
        return self._finish_if_ended(turn)

    def close(self) -> list[Fact]:
        """Finish all open turns as they are; what was being said is interrupted."""
        for turn in self._open:
            turn.interrupted = turn.interrupted or any(
                speech.generated and not (speech.done or speech.is_answered) for speech in turn.speeches
            )
        return [fact for turn in list(self._open) for fact in self._finish(turn)]

    def _speech(self, speech: str) -> Speech:
        return self._speeches.setdefault(speech, Speech(speech))

    def _turn_of(self, speech: str | None) -> OpenTurn | None:
        known = self._speeches.get(speech) if speech else None
        return known.turn if known else None

    def _waiting(self, wait: Wait) -> OpenTurn | None:
        return next((turn for turn in self._open if wait in turn.waits), None)

    def _new_turn(
        self,
        agent_id: str,
        *,
        utterance: Utterance | None = None,
        waits: set[Wait] | None = None,
        is_unprompted: bool = False,
    ) -> OpenTurn:
        is_greeting = is_unprompted and not self._agent_has_spoken
        self._agent_has_spoken = True
        if not is_greeting:
            self._started += 1
        number = None if is_greeting else self._started
        turn = OpenTurn(number, self._epoch, agent_id, utterance, waits=waits or set())
        self._open.append(turn)
        return turn

    def _assign(self, speech: Speech, turn: OpenTurn) -> None:
        speech.turn = turn
        turn.speeches.append(speech)
        _changed(turn)

    def _leave_turn(self, speech: Speech) -> list[Fact]:
        turn, speech.turn = speech.turn, None
        if speech.done:
            del self._speeches[speech.id]
        if turn is None:
            return []
        turn.speeches.remove(speech)
        _changed(turn)
        return self._finish_if_ended(turn)

    def _finish_unanswered(self) -> list[Fact]:
        """Finish what the next utterance shows to be over: no answer came, or a handoff has failed."""
        over = [turn for turn in self._open if Wait.ANSWER in turn.waits or _only_handoff(turn)]
        return [fact for turn in over for fact in self._finish(turn)]

    def _finish_if_ended(self, turn: OpenTurn) -> list[Fact]:
        return self._finish(turn) if turn.ended and turn in self._open else []

    def _finish(self, turn: OpenTurn) -> list[Fact]:
        self._open.remove(turn)
        for speech in turn.speeches:
            speech.turn = None
            if speech.done:
                del self._speeches[speech.id]
        if turn.number is not None:
            self.saved += 1
        return [turn.finished()]


def _only_handoff(turn: OpenTurn) -> bool:
    return turn.handoffs > 0 and not turn.waits and not turn.is_speaking


def _spoke(speech: Speech, text: str) -> None:
    """Note that the user heard a speech: of a turn with a hand-off, the last who was heard is the agent."""
    if speech.turn is not None and speech.agent_id is not None and text.strip():
        speech.turn.agent_id = speech.agent_id
    _changed(speech.turn)


def _changed(turn: OpenTurn | None) -> None:
    if turn is not None:
        turn.changes += 1
