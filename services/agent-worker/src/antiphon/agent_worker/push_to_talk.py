"""Push to talk: in a flow with `detection: manual` the caller's client says when their turn begins and ends.

The client calls three RPC methods of the agent: with `start_turn` the agent begins to hear the caller, with
`end_turn` it answers, with `cancel_turn` it forgets what was said.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import structlog
from livekit import rtc
from livekit.agents import AgentSession, CloseEvent, UserInputTranscribedEvent, UserStateChangedEvent
from livekit.agents.llm import ChatMessage, RealtimeModel, StopResponse

log = structlog.get_logger(__name__)

START, END, CANCEL = "start_turn", "end_turn", "cancel_turn"

# error codes of RPC; LiveKit's own are 1001 to 1999
NOT_THE_CALLER: Final = 403
WRONG_MOMENT: Final = 409

LONGEST_TURN_SECONDS = 60.0  # after it, a turn that the client has forgotten is ended
TAIL_SECONDS = 0.15  # the end of a sentence may arrive after the request to end the turn
TRANSCRIPT_SECONDS = 5.0  # for the transcript of the end of a sentence
# less than half a second after a final transcript LiveKit does not wait for the next, and takes words twice
AFTER_FINAL_SECONDS = 0.55
INTERRUPT_SECONDS = 5.0


class PushToTalk:
    """The turns of one caller: at most one is open, and only then the agent hears them."""

    def __init__(self, session: AgentSession[Any], *, longest_seconds: float = LONGEST_TURN_SECONDS) -> None:
        self._session = session
        self._longest_seconds = longest_seconds
        self._lock = asyncio.Lock()  # one request at a time, in their order
        self._open = False
        self._heard = False
        self._unfinished = False  # the final transcript is still to come
        self._limit: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[str] | None = None
        session.on("user_state_changed", self._on_user_state)
        session.on("user_input_transcribed", self._on_transcript)
        session.on("close", self._on_close)
        session.input.set_audio_enabled(False)

    async def start(self) -> str:
        """Begin a turn: the agent is interrupted, and hears the caller. An open turn stays open.

        Raises rtc.RpcError when the agent cannot be interrupted now.
        """
        async with self._lock:
            if self._open:
                return _answer(open=True)
            try:
                async with asyncio.timeout(INTERRUPT_SECONDS):
                    await self._session.interrupt()
            except RuntimeError as error:
                reason = "the agent cannot be interrupted now: wait until it has finished"
                raise rtc.RpcError(WRONG_MOMENT, reason) from error
            self._session.clear_user_turn()
            self._heard = self._unfinished = False
            self._listen(True)
            self._limit = asyncio.get_running_loop().call_later(self._longest_seconds, self._end_forgotten)
            return _answer(open=True)

    async def end(self) -> str:
        """End the turn: the agent answers. Without a word it is cancelled, and the transcript is empty.

        Raises rtc.RpcError when no turn is open.
        """
        async with self._lock:
            self._require_open(END)
            await self._hear_the_end()
            if not self._open:  # the session has been closed
                return _answer(open=False, transcript="")
            self._listen(False)
            if not self._heard:
                self._session.clear_user_turn()
                return _answer(open=False, transcript="")
            async with asyncio.timeout(2 * TRANSCRIPT_SECONDS):
                text = await self._session.commit_user_turn(transcript_timeout=TRANSCRIPT_SECONDS)
            return _answer(open=False, transcript=text)

    async def cancel(self) -> str:
        """Forget the turn. Raises rtc.RpcError when no turn is open."""
        async with self._lock:
            self._require_open(CANCEL)
            self._listen(False)
            self._session.clear_user_turn()
            return _answer(open=False)

    def _require_open(self, method: str) -> None:
        if not self._open:
            raise rtc.RpcError(WRONG_MOMENT, f"{method}: no turn is open; call {START} first")

    async def _hear_the_end(self) -> None:
        await asyncio.sleep(TAIL_SECONDS)  # also after a final transcript: more words may be on their way
        if self._says_more():
            await asyncio.sleep(max(0.0, AFTER_FINAL_SECONDS - self._since_final()))

    def _says_more(self) -> bool:
        return self._unfinished or self._session.user_state == "speaking"

    def _since_final(self) -> float:
        """Return the seconds since the last final transcript, or early one, as LiveKit counts them."""
        activity = self._session._activity
        recognition = activity._audio_recognition if activity is not None else None
        last = recognition._last_final_transcript_time if recognition is not None else None
        return math.inf if last is None else time.time() - last

    def _listen(self, listening: bool) -> None:
        self._open = listening
        self._session.input.set_audio_enabled(listening)
        if not listening and self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _end_forgotten(self) -> None:
        log.warning("turns.ended_by_limit", seconds=self._longest_seconds)
        self._ending = asyncio.create_task(self.end(), name="end turn")
        self._ending.add_done_callback(_log_failure)

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        self._heard = self._heard or event.new_state == "speaking"

    def _on_transcript(self, event: UserInputTranscribedEvent) -> None:
        self._heard = True
        self._unfinished = not event.is_final

    def _on_close(self, _event: CloseEvent) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._open = False


def take_turns_by_hand(room: rtc.Room, session: AgentSession[Any]) -> PushToTalk:
    """Let the caller of a session take turns by RPC; nobody else in the room can."""
    turns = PushToTalk(session)
    for method, act in ((START, turns.start), (END, turns.end), (CANCEL, turns.cancel)):
        room.local_participant.register_rpc_method(method, partial(_answer_caller, session, act))
    return turns


def require_words(session: AgentSession[Any], message: ChatMessage) -> None:
    """Raise StopResponse for a turn without a word: `end_turn` after a sound that was not speech.

    The turns of a speech-to-speech model have no words here.
    """
    if not message.text_content and not isinstance(session.llm, RealtimeModel):
        raise StopResponse


async def _answer_caller(
    session: AgentSession[Any], act: Callable[[], Awaitable[str]], data: rtc.RpcInvocationData
) -> str:
    caller = session.room_io.linked_participant
    if caller is None or data.caller_identity != caller.identity:  # as RoomIO does with texts
        reason = f"only the caller takes turns, and {data.caller_identity!r} is not the caller"
        raise rtc.RpcError(NOT_THE_CALLER, reason)
    return await act()


def _answer(**values: object) -> str:
    return json.dumps(values)


def _log_failure(task: asyncio.Task[str]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception) and not isinstance(error, rtc.RpcError):  # the caller was faster
        log.error("turns.not_ended", error=type(error).__name__, pii_error=str(error))
