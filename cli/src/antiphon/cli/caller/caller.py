import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from livekit import rtc
from livekit.rtc.data_stream import StreamError

from antiphon.cli.caller.audio import AudioRecorder, Microphone
from antiphon.cli.caller.call_log import CallLog, DataMessage, StateChange, Utterance
from antiphon.cli.errors import StackError

STATE = "lk.agent.state"
TRANSCRIPTION = "lk.transcription"
FINAL = "lk.transcription_final"
READY_TOPIC = "agent-status"
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT  # LiveKit gives it only to who is dispatched as one
UNCLEAR = "(unclear)"  # the offline recogniser's transcript of unrecognised speech
SPEAKING = "speaking"
QUIET = ("listening", "idle")
SETTLE_SECONDS = 0.7


class AgentNeverReady(StackError):
    """No agent became ready in time."""


class AgentSilent(StackError):
    """The agent did not reply."""


class Caller:
    """A caller in a room: speaks, records, and logs transcripts, agent states and data messages.

    As a context manager it joins the room and leaves it.
    """

    def __init__(
        self, url: str, token: str, *, on_line: Callable[[Utterance], None] = lambda _: None
    ) -> None:
        self._url, self._token = url, token
        self.on_line = on_line
        self._tasks: set[asyncio.Task[None]] = set()
        self.room = rtc.Room()
        self.log = CallLog()
        self.audio = AudioRecorder()
        self.microphone = Microphone()
        self._subscribe_to_room()

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def join(self) -> None:
        """Join the room and publish the microphone."""
        try:
            await self.room.connect(self._url, self._token)
        except rtc.ConnectError as error:
            raise StackError(f"LiveKit at {self._url} refused the caller: {error}") from error
        await self.microphone.open(self.room.local_participant)
        for participant in self.room.remote_participants.values():
            self._on_attributes(participant)

    async def leave(self) -> None:
        """Leave the room."""
        await self.microphone.close()
        await self.audio.close()
        await self.room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_until_ready(self, *, timeout_seconds: float) -> DataMessage:
        """Wait for the agent's ready message and return it.

        Raises AgentNeverReady.
        """
        ready = self._ready
        if not await self.log.wait_for(lambda: ready() is not None, timeout_seconds):
            why = self.log.ended or f"no message for {timeout_seconds:g} s"
            raise AgentNeverReady(f"no agent became ready: {why}")
        message = ready()
        assert message is not None
        return message

    async def say(self, text: str) -> None:
        """Speak the text; return when all of it has been sent."""
        await self.microphone.say(text)

    async def converse(self, text: str, *, timeout_seconds: float = 20.0) -> list[Utterance]:
        """Wait until the agent is quiet, speak, and return its complete reply.

        Raises AgentSilent without a reply. The agent may hang up after its reply.
        """
        await self.wait_for_quiet(timeout_seconds=timeout_seconds)
        lines, states = len(self.agent_lines), len(self.log.states)
        await self.say(text)
        spoke = await self.log.wait_for(
            lambda: any(change.state == SPEAKING for change in self.log.states[states:]), timeout_seconds
        )
        if not spoke:
            why = self.log.ended or f"no reply within {timeout_seconds:g} s"
            raise AgentSilent(f"the agent did not reply to “{text}”: {why}")
        await self.wait_for_quiet(timeout_seconds=timeout_seconds)
        # the transcript is complete shortly after the audio
        await self.log.wait_for(lambda: len(self.agent_lines) > lines, SETTLE_SECONDS)
        return self.agent_lines[lines:]

    async def say_until_understood(
        self, text: str, *, tries: int = 3, timeout_seconds: float = 20.0
    ) -> list[Utterance]:
        """Speak as `converse` does; repeat while the agent's transcript is unclear.

        Raises AgentSilent.
        """
        while True:
            before = len(self.own_lines)
            answer = await self.converse(text, timeout_seconds=timeout_seconds)
            tries -= 1
            unclear = UNCLEAR in {line.text for line in self.own_lines[before:]}
            if not unclear or tries == 0 or self.log.ended:
                return answer

    async def wait_for_quiet(self, *, timeout_seconds: float) -> None:
        """Wait until the agent has been listening for 0.7 s, or has left.

        Between two sentences and during a hand-off it listens for a shorter time.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        while clock() < deadline and not self.log.ended:
            await self.log.wait_for(lambda: self.log.state in QUIET, deadline - clock())
            if not await self.log.wait_for(lambda: self.log.state not in QUIET, SETTLE_SECONDS):
                return

    async def wait_until_gone(self, *, timeout_seconds: float) -> bool:
        """Wait for the agent to leave; return whether it did."""
        return await self.log.wait_for(lambda: self.log.ended is not None, timeout_seconds)

    @property
    def agent_lines(self) -> list[Utterance]:
        """The lines of agents."""
        return [line for line in self.log.lines if line.who != self.identity]

    @property
    def own_lines(self) -> list[Utterance]:
        """The caller's lines, as the agent transcribed them."""
        return [line for line in self.log.lines if line.who == self.identity]

    @property
    def identity(self) -> str:
        """The caller's identity in the room."""
        return self.room.local_participant.identity

    def _ready(self) -> DataMessage | None:
        # any participant that may publish data could send the same message
        sent = (m for m in self.log.data if m.topic == READY_TOPIC and m.from_agent)
        return next((m for m in sent if m.body.get("type") == "agent.ready"), None)

    def _subscribe_to_room(self) -> None:
        room = self.room
        room.on("track_subscribed", lambda track, *_: self.audio.add(track))
        room.on("data_received", self._on_data)
        room.on("participant_connected", self._on_attributes)
        room.on("participant_attributes_changed", lambda _, participant: self._on_attributes(participant))
        room.on("participant_disconnected", self._on_left)
        room.on("disconnected", self._on_disconnected)
        room.register_text_stream_handler(TRANSCRIPTION, self._on_transcription)

    def _on_data(self, packet: rtc.DataPacket) -> None:
        try:
            body = json.loads(packet.data)
        except ValueError:
            return  # not a message of the agent
        sender = packet.participant
        if isinstance(body, dict):
            message = DataMessage(
                packet.topic or "",
                body,
                sender.identity if sender else None,
                self._now(),
                from_agent=sender is not None and sender.kind == AGENT,
            )
            self.log.data.append(message)
            self.log.notify()

    def _on_attributes(self, participant: rtc.RemoteParticipant) -> None:
        state = participant.attributes.get(STATE)
        if state and state != self.log.state:
            self.log.states.append(StateChange(state, self._now()))
            self.log.notify()

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == AGENT:
            self._end("the agent left")

    def _on_disconnected(self, reason: int) -> None:
        self._end(f"the room closed ({rtc.DisconnectReason.Name(reason)})")  # type: ignore[arg-type]

    def _end(self, why: str) -> None:
        self.log.ended = self.log.ended or why
        self.log.notify()

    def _on_transcription(self, reader: rtc.TextStreamReader, who: str) -> None:
        task = asyncio.create_task(self._read(reader, who), name=f"transcript of {who}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: rtc.TextStreamReader, who: str) -> None:
        text = ""
        with suppress(StreamError):  # the call ended within the line: use the part that arrived
            async for piece in reader:
                text += piece
        text = text.strip()
        # interim transcripts of the caller are sent too, marked as not final
        interim = who == self.identity and (reader.info.attributes or {}).get(FINAL) == "false"
        if text and not interim:
            line = Utterance(who, text, self._now())
            self.log.lines.append(line)
            self.on_line(line)
            self.log.notify()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
