"""Answer: what ours adds to a plain LiveKit agent within the process, from the end of a turn to first audio.

Two sessions in one process have the same recogniser, model and voice, and answer by turns. Ours is the agent
of a flow, recorded to a real broker. `turns` measures the same as a caller hears it.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, stt, utils
from tests.agent_worker.doubles.spoken_call import Loudspeaker, Microphone
from tests.fixtures.scripted_stt import ScriptedSTT
from tests.journeys.turns.flows import flow_of
from tests.recorder.recorded_session import recorded_session

from antiphon.agent_worker.agents import build_entry_agent
from antiphon.agent_worker.apology import ApologisingSession
from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.flow.bound import BoundFlow, bind
from antiphon.agent_worker.flow.scripted import ScriptedLLM
from antiphon.agent_worker.providers.espeak_tts import EspeakTTS
from antiphon.agent_worker.providers.voices import llm_factory, session_options
from antiphon.agent_worker.tools.session_tools import SessionTools
from antiphon.agent_worker.turn_handling import turn_handling
from antiphon.agent_worker.unheard_caller import UnheardCaller
from antiphon.chassis.bus import Bus

from .report import Report, Result, Servers

TURNS = 40
SECONDS = 30
BEFORE_SECONDS = 0.6  # LiveKit does not wait for a transcript before it
AFTER_SECONDS = 0.3  # for the rest of the answer
MORE_MILLISECONDS = 5.0  # ours may add so much


async def run(servers: Servers, report: Report) -> None:
    """Let both sessions answer by turns."""
    report.step("make the streams", seconds=30)
    bus = await Bus.connect(servers.nats_url, name="benchmark")
    await bus.ensure()
    bound = SessionTools(bind(load_flow(flow_of("manual"), CATALOG), CATALOG)).bound
    report.step(f"{TURNS} turns of each", seconds=60 + TURNS * 2 * (BEFORE_SECONDS + AFTER_SECONDS + 1))
    async with utils.http_context.open(), _ours(bound, bus, servers) as ours, _plain(bound) as plain:
        gc.collect()
        gc.freeze()
        delays: tuple[list[float], list[float]] = ([], [])
        for _ in range(TURNS):
            for lane, found in zip((ours, plain), delays, strict=True):
                found.append(await lane.delay())
    await bus.close()
    value, baseline = map(median, delays)
    report.row(
        Result(
            name="answer: end of turn to first audio within the process, p50",
            value=value,
            unit="ms",
            baseline_name=f"a plain session, {TURNS} turns of each",
            baseline=baseline,
        )
    )
    report.row(
        Result(
            name="answer: ours more than plain, p50",
            value=value - baseline,
            unit="ms",
            target=MORE_MILLISECONDS,
        )
    )


class _Loudspeaker(Loudspeaker):
    """Notes when it began to play."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.began_at = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        if not self.began.is_set():
            self.began_at = time.perf_counter()
            self.began.set()
        await super().capture_frame(frame)


class _Lane:
    def __init__(self, session: AgentSession[Any], recogniser: ScriptedSTT) -> None:
        self._session = session
        self._recogniser = recogniser
        self._loudspeaker = _Loudspeaker()
        session.input.audio = Microphone()
        session.output.audio = self._loudspeaker

    async def delay(self) -> float:
        """Say something and end the turn; return the milliseconds until the answer begins."""
        self._recogniser.streams[-1].send(stt.SpeechEventType.FINAL_TRANSCRIPT, "okay")
        await asyncio.sleep(BEFORE_SECONDS)
        self._loudspeaker.began.clear()
        ended = time.perf_counter()
        self._session.commit_user_turn(transcript_timeout=0.0)
        async with asyncio.timeout(SECONDS):
            await self._loudspeaker.began.wait()
        await asyncio.sleep(AFTER_SECONDS)
        return (self._loudspeaker.began_at - ended) * 1_000


@asynccontextmanager
async def _ours(bound: BoundFlow, bus: Bus, servers: Servers) -> AsyncIterator[_Lane]:
    loaded: dict[str, Any] = {}
    recogniser = ScriptedSTT()
    options = session_options(bound, loaded) | {"vad": None, "stt": recogniser}
    make = partial(ApologisingSession, bound)
    journal = Path(servers.folder) / "journal"
    async with recorded_session(bus, servers.nats_url, journal, make, **options) as recorded:
        assert isinstance(recorded.session, ApologisingSession)
        UnheardCaller(recorded.session)
        lane = _Lane(recorded.session, recogniser)
        await recorded.start(build_entry_agent(bound, llm_factory(bound.flow, loaded)))
        yield lane


@asynccontextmanager
async def _plain(bound: BoundFlow) -> AsyncIterator[_Lane]:
    recogniser = ScriptedSTT()
    session: AgentSession[None] = AgentSession(
        vad=None,
        stt=recogniser,
        llm=ScriptedLLM(bound, bound.flow.first),
        tts=EspeakTTS(),
        turn_handling=turn_handling(bound.flow),
    )
    lane = _Lane(session, recogniser)
    await session.start(Agent(instructions="You answer the telephone."), record=False)
    yield lane
    await session.aclose()
