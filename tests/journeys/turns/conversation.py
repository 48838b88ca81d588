"""A call of a flow: the synthetic caller, and the events of the session as they are committed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from livekit import rtc
from tests.journeys.json_api import Json, SessionApi

from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.agent_worker.providers.sphinx_stt import UNCLEAR
from antiphon.cli.caller import Caller
from antiphon.client import CreatedSession, NotFound

SECONDS = 60.0
CHAT = "lk.chat"
SAMPLE_BYTES = 2

Send = Callable[[str], Awaitable[None]]


class Conversation:
    """A caller in a session, and what is on record of it."""

    def __init__(self, caller: Caller, session_id: str) -> None:
        self.caller = caller
        self.session_id = session_id
        self.by_hand = False  # whether the caller says by RPC when a turn begins and ends
        self.must_understand = False  # whether to wait no longer after words that were not understood
        self.events: list[Json] = []
        self._changed = asyncio.Condition()

    async def follow(self, api: SessionApi) -> None:
        """Collect the session's events as they are committed, to the last one."""
        async for event in api.follow(self.session_id):
            async with self._changed:
                self.events.append(event)
                self._changed.notify_all()

    def of_type(self, kind: str) -> list[Json]:
        """Return the data of the events of a type, so far."""
        return [event["data"] for event in self.events if event["type"] == kind]

    @property
    def not_understood(self) -> bool:
        """Whether the recogniser could not understand something that must be."""
        return self.must_understand and UNCLEAR in self.heard

    @property
    def heard(self) -> list[str]:
        """What the recogniser has heard so far."""
        return [heard["transcript"] for heard in self.of_type("user_input_transcribed")]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition on the events holds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS), self._changed:
                await self._changed.wait_for(lambda: holds() or self.not_understood)
        assert holds(), f"it never held of {self.on_record()}"

    def on_record(self) -> list[str]:
        """Return the events so far, for an error."""
        shown = ("turn", "user_text", "assistant_text", "interrupted", "transcript", "new_state")
        return [
            " ".join([event["type"], *(f"{event['data'][key]!r}" for key in shown if key in event["data"])])
            for event in self.events
        ]

    async def turns(self, count: int) -> list[Json]:
        """Wait until so many turns are saved; return them all."""
        await self.until(lambda: len(self.of_type("turn.saved")) >= count)
        return self.of_type("turn.saved")

    async def say(self, *parts: str | float) -> None:
        """Speak texts, with pauses in seconds between them, exactly as long."""
        spoken = [await self._pcm(part) for part in parts]
        await self.caller.microphone.play(b"".join(spoken))

    async def take_turn(self, *parts: str | float) -> None:
        """Say something as a turn; if turns are taken by hand, the turn ends once all of it was heard."""
        if not self.by_hand:
            await self.say(*parts)
            return
        heard = len(self.heard) + sum(isinstance(part, str) for part in parts)
        await self.ask("start_turn")
        await self.say(*parts)
        await self.until(lambda: len(self.heard) >= heard)
        await self.ask("end_turn")

    async def until_it_answers(
        self, text: str, *, by: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        """Wait until the agent is quiet, say or type something, and wait until it begins to speak."""
        await self.caller.wait_for_quiet(timeout_seconds=SECONDS)
        states = self.caller.log.states
        before = len(states)
        await (by or self.say)(text)
        assert await self.caller.log.wait_for(
            lambda: any(change.state == "speaking" for change in states[before:]), SECONDS
        ), self.on_record()

    async def ask(self, method: str, *, by: Caller | None = None) -> str:
        """Call an RPC method of the agent."""
        room = (by or self.caller).room
        [agent] = [
            participant.identity
            for participant in room.remote_participants.values()
            if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        ]
        return await room.local_participant.perform_rpc(
            destination_identity=agent, method=method, payload="", response_timeout=SECONDS
        )

    async def type(self, text: str) -> None:
        """Send a text to the agent."""
        await self.caller.room.local_participant.send_text(text, topic=CHAT)

    async def refusal_of(self, text: str) -> str:
        """Send a text; return the text that the agent sends back."""
        received: asyncio.Queue[rtc.TextStreamReader] = asyncio.Queue()
        room = self.caller.room
        room.register_text_stream_handler(CHAT, lambda reader, _sender: received.put_nowait(reader))
        await self.type(text)
        async with asyncio.timeout(SECONDS):
            return await (await received.get()).read_all()

    async def _pcm(self, part: str | float) -> bytes:
        if isinstance(part, str):
            _, pcm = await asyncio.to_thread(synthesize, part)
            return pcm
        return bytes(int(part * self.caller.microphone.rate) * SAMPLE_BYTES)


async def _create(api: SessionApi, flow: str) -> CreatedSession:
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(NotFound):  # session-api learns shortly after its publication that there is a flow
                # a text, or a call of a method of the agent, is data in the room
                return await api.client.sessions.create(flow_id=flow, user_id="ada", can_publish_data=True)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def conversation(api: SessionApi, flow: str) -> AsyncIterator[Conversation]:
    """Call a flow, and wait until its greeting was heard."""
    created = await _create(api, flow)
    async with Caller(created.livekit_url, str(created.token)) as caller:
        call = Conversation(caller, created.session_id)
        following = asyncio.create_task(call.follow(api))
        try:
            await caller.wait_until_ready(timeout_seconds=SECONDS)
            await caller.wait_for_quiet(timeout_seconds=SECONDS)
            yield call
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
