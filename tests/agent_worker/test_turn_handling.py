"""How a flow's turns become LiveKit's options, and the model of `semantic`: it never leaves this machine."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.inference.eot.languages import LOCAL_LANGUAGES
from livekit.agents.inference.eot.transports import _LocalTransport
from livekit.agents.inference_runner import _InferenceRunner
from tests.journeys.turns.flows import flow_of

from antiphon.agent_worker import job
from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow
from antiphon.agent_worker.flow.check.turns import LANGUAGES
from antiphon.agent_worker.flow.voice import Voice
from antiphon.agent_worker.flow_store import publish_flows
from antiphon.agent_worker.providers.espeak import synthesize
from antiphon.agent_worker.semantic_turns import PRELOAD, build_detector, preload_if_used
from antiphon.agent_worker.turn_handling import WHOLE_SENTENCE_SECONDS, turn_handling
from antiphon.chassis.bus import Bus


def flow(turns: str, **changes: str) -> Flow:
    text = flow_of("vad").replace("turns: {detection: vad}", turns)
    for given, instead in changes.items():
        text = text.replace(f"{given}:", f"{instead}\n{given}:", 1)
    return load_flow(text, CATALOG)


def test_options_are_all_explicit() -> None:
    options = turn_handling(
        flow(
            "turns: {detection: vad, endpointing: {mode: dynamic, min_seconds: 0.3, max_seconds: 4},"
            " interruption: {min_seconds: 0.7, min_words: 2, resume_after_seconds: 1.5}}"
        )
    )
    assert options == {
        "turn_detection": "vad",
        "endpointing": {"mode": "dynamic", "min_delay": 0.3, "max_delay": 4},
        "interruption": {
            "enabled": True,
            "mode": "vad",
            "min_duration": 0.7,
            "min_words": 2,
            "resume_false_interruption": True,
            "false_interruption_timeout": 1.5,
        },
        "preemptive_generation": {"enabled": False},
    }


def test_speech_that_cannot_be_interrupted_and_does_not_resume() -> None:
    assert turn_handling(flow("turns: {interruption: false}"))["interruption"]["enabled"] is False
    interruption = turn_handling(flow("turns: {interruption: {resume: false}}"))["interruption"]
    assert (interruption["resume_false_interruption"], interruption["false_interruption_timeout"]) == (
        False,
        None,
    )


def test_who_says_when_they_have_finished_is_not_waited_for() -> None:
    endpointing = turn_handling(flow("turns: {detection: manual}"))["endpointing"]
    assert (endpointing["min_delay"], endpointing["max_delay"]) == (0.0, 0.0)


def test_realtime_model_detects_turns_itself_unless_the_flow_says_otherwise(booking: Flow) -> None:
    voice = Voice.model_validate({"realtime": "openai", "vad": "silero"})
    realtime = booking.model_copy(update={"voice": voice})
    assert turn_handling(realtime)["turn_detection"] == "realtime_llm"
    by_hand = realtime.model_copy(update={"turns": flow("turns: {detection: manual}").turns})
    assert turn_handling(by_hand)["turn_detection"] == "manual"


def test_model_waits_for_the_words_of_a_recogniser_of_sentences() -> None:
    endpointing = turn_handling(flow("turns: {detection: semantic}"))["endpointing"]
    assert (endpointing["min_delay"], endpointing["max_delay"]) == (WHOLE_SENTENCE_SECONDS, 1.0)


def _heard(text: str) -> Iterator[rtc.AudioFrame]:
    rate, pcm = synthesize(text)
    samples = np.frombuffer(pcm, dtype=np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 150)
    pcm = samples[: loud[-1] + 1].tobytes() + bytes(2 * rate // 5)
    size = 2 * rate // 50
    for start in range(0, len(pcm) - size, size):
        yield rtc.AudioFrame(pcm[start : start + size], rate, 1, size // 2)


async def _probability(text: str) -> float:
    stream = build_detector().stream()
    try:
        assert isinstance(stream._transport, _LocalTransport)
        for frame in _heard(text):
            stream.push_audio(frame)
        while not stream._audio_ch.empty():  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            return (await stream.predict()).end_of_turn_probability
    finally:
        await stream.aclose()


@pytest.mark.parametrize("variable", ["LIVEKIT_DEV_MODE", "LIVEKIT_REMOTE_EOT_URL"])
async def test_model_runs_here_in_every_mode(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    for name in ("URL", "API_KEY", "API_SECRET"):
        monkeypatch.setenv(f"LIVEKIT_INFERENCE_{name}", "http://127.0.0.1:1")
    assert build_detector().model == "turn-detector-v1-mini"
    unfinished, finished = await _probability("i would like to"), await _probability("thank you good bye")
    assert unfinished < LOCAL_LANGUAGES["en"] < finished


def test_no_inference_process_is_needed() -> None:
    assert job.__name__  # all that a job imports is imported
    assert _InferenceRunner.registered_runners == {}


@pytest.mark.parametrize(("strategy", "preload"), [("vad", "0"), ("semantic", "1")])
async def test_worker_loads_the_model_if_a_published_flow_uses_it(
    strategy: str, preload: str, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRELOAD, "")
    monkeypatch.delenv(PRELOAD)
    (tmp_path / "flow.yaml").write_text(flow_of(strategy))
    await bus.ensure_buckets()
    await publish_flows(bus, tmp_path, tenant="default", now=lambda: datetime.now(UTC))
    assert await preload_if_used(bus) is (preload == "1")
    assert os.environ[PRELOAD] == preload


async def test_operator_decides_whether_the_model_is_loaded(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRELOAD, "1")
    assert await preload_if_used(bus) is True


def test_languages_are_those_of_the_model() -> None:
    assert set(LANGUAGES) == set(LOCAL_LANGUAGES)


@pytest.mark.parametrize(
    ("turns", "agents", "reason"),
    [
        (
            "semantic",
            "language: pl\nvoice: {stt: deepgram, llm: openai, tts: openai}",
            f"semantic knows {', '.join(LANGUAGES)}, not 'pl': write vad or stt",
        ),
        (
            "semantic",
            "voice: {realtime: openai}",
            "semantic needs speech detection: add `vad: silero` to `voice`",
        ),
        (
            "stt",
            "voice: {realtime: openai}",
            "a realtime model has no recogniser: leave `detection` out, or write vad or manual",
        ),
    ],
)
def test_what_a_detection_needs_is_checked(turns: str, agents: str, reason: str) -> None:
    with pytest.raises(InvalidFlow) as caught:
        flow(f"turns: {{detection: {turns}}}", agents=agents)
    assert ("turns.detection", reason) in [
        (problem.place, problem.reason) for problem in caught.value.problems
    ]
