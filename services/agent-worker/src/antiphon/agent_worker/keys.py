"""The keys of the caller's telephone (DTMF) as input: what each does, and keys gathered to a number."""

import asyncio
from typing import Any, Final

import structlog
from livekit import rtc
from livekit.agents import AgentSession

from antiphon.agent_worker.agents import next_agent
from antiphon.agent_worker.call import Call, speak
from antiphon.agent_worker.flow.answers import RuleAnswers
from antiphon.agent_worker.flow.call import KEYS, Dtmf, KeyAction
from antiphon.agent_worker.flow.phrase import parse_phrase, sentences
from antiphon.agent_worker.hand_off import HandOffRefused, successor, taken_over
from antiphon.agent_worker.hang_up import hang_up
from antiphon.agent_worker.transfers import transfer_caller
from antiphon.contracts.events.session import CloseReason

log = structlog.get_logger(__name__)

END: Final = "#"  # of a number
IGNORED: Final = "KeyIgnored"
SILENCE_SECONDS: Final = 1.0  # for the agent to stop speaking
MOST_DIGITS: Final = 64  # of one number; more are dropped
WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS: Final = {str(digit): word for digit, word in enumerate(WORDS)}


class Keys:
    """The keys that one caller presses; those of other participants are not heard.

    A key with an action does it at once, unless a number has begun. Other keys are gathered to a number with
    `collect`, which a pause or # ends: the agent hears it as if it was said. During a hand-off, what keys do
    waits for the agent that takes over.
    """

    def __init__(self, call: Call, session: AgentSession[Any], dtmf: Dtmf) -> None:
        self._call = call
        self._session = session
        self._dtmf = dtmf
        self._digits = ""
        self._pause: asyncio.TimerHandle | None = None
        self._handing_over = asyncio.Lock()
        self._acting: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()  # the keys whose action is running: pressed again, they do nothing
        session.on("close", self._forget)

    def on_dtmf(self, pressed: rtc.SipDTMF) -> None:
        """Hear a key of the room."""
        caller = self._session.room_io.linked_participant
        if caller is None or pressed.participant is None or pressed.participant.identity != caller.identity:
            return  # an observer must not steer the call
        self.press(pressed.digit)

    def press(self, key: str) -> None:
        """Take a key of the caller."""
        if key not in KEYS or len(key) != 1:
            return
        action = self._dtmf.keys.get(key)
        gathers = self._dtmf.collect and (bool(self._digits) or action is None)
        if gathers and key in DIGITS:
            self._gather(key)
        elif self._digits and key == END:
            self._complete()
        elif action is not None:
            self._act(key, action)

    def _gather(self, key: str) -> None:
        if len(self._digits) < MOST_DIGITS:
            self._digits += key
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(self._dtmf.pause_seconds, self._complete)

    def _complete(self) -> None:
        digits = self._digits
        self._forget()
        if digits:
            self._start(self._number(digits))

    async def _number(self, digits: str) -> None:
        async with self._handing_over:
            settled = await self._settled("a number")
        if settled:
            await self._hear(self._as_text(digits))

    def _forget(self, *_: object) -> None:
        self._digits = ""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _as_text(self, digits: str) -> str:
        """Return the digits as words if a phrase of the flow has them so, else as a number."""
        words = " ".join(DIGITS[digit] for digit in digits)
        scripted = self._call.is_scripted(self._session.current_agent.id)
        return words if scripted or self._answers().understands(words) else digits

    def _answers(self) -> RuleAnswers:
        return RuleAnswers(self._call.bound, self._session.current_agent.id)

    def _act(self, key: str, action: KeyAction) -> None:
        if key not in self._busy:
            self._busy.add(key)
            self._start(self._do(key, action)).add_done_callback(lambda _: self._busy.discard(key))

    def _start(self, doing: Any) -> "asyncio.Task[None]":
        task = asyncio.create_task(doing, name="key")
        self._acting.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._acting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("call.key_failed", error=type(error).__name__, pii_error=str(error))
            self._call.problem("KeyFailed", f"the action of a key failed: {error!r}")

    async def _do(self, key: str, action: KeyAction) -> None:
        call, session = self._call, self._session
        say = None if action.say is None else call.bound.text(action.say)
        if action.end:
            hang_up(call, session, CloseReason.AGENT_ENDED, say, at_once=True)
            return
        async with self._handing_over:  # one after the other, as they were pressed
            if not await self._settled(f"key {key}"):
                return
            if action.hand_off is not None:
                await self._hand_off(key, action.hand_off, say)
                return
        if action.hear is not None:
            await self._hear(_words(call, action.hear), say)
        elif self._is_free(key):
            await self._interrupt()
            speech = None if say is None else speak(session, say)
            if action.transfer is not None:
                if speech is not None:
                    await speech
                await transfer_caller(call, session, action.transfer, f"key: {key}")

    async def _settled(self, what: str) -> bool:
        """Wait for the end of a hand-off that is under way; what is pressed acts on the agent after it."""
        settled = await taken_over(self._session)
        if not settled:
            self._call.problem(IGNORED, f"{what} did nothing: the hand-off before it did not end")
        return settled and self._call.ending is None

    def _is_free(self, key: str) -> bool:
        if self._call.transferring:
            self._call.problem(IGNORED, f"key {key} did nothing: the caller is being transferred")
        return not self._call.transferring

    async def _hand_off(self, key: str, target: str, say: str | None) -> None:
        call, session = self._call, self._session
        if target == session.current_agent.id or not self._is_free(key):
            return
        await self._interrupt()
        if say is not None:
            speak(session, say)
        source = session.current_agent.id
        try:
            agent = successor(call, session, source, target, next_agent(call))
        except HandOffRefused:
            return  # on record; the agent in charge goes on
        call.record.hands_off_for(f"key: {key}")
        session.update_agent(agent)
        await taken_over(session)

    async def _hear(self, text: str, say: str | None = None) -> None:
        await self._interrupt()
        if say is not None:
            speak(self._session, say)
        self._session.generate_reply(user_input=text)

    async def _interrupt(self) -> None:
        try:
            silence = self._session.interrupt()
        except RuntimeError:
            log.debug("call.key_waits")  # for a text that cannot be interrupted
        else:
            await asyncio.wait([silence], timeout=SILENCE_SECONDS)  # it waits for running tools too


def _words(call: Call, hear: str) -> str:
    """Return the words of a key: a text as it is, or the first sentence of a phrase of that name."""
    flow = call.bound.flow
    if hear not in flow.phrases:
        return hear
    values = {slot: list(words) for slot, words in flow.slots.items()}
    return next(sentences(parse_phrase(flow.phrases[hear][0]), values))
