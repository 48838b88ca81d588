"""The voices of a session: the objects of LiveKit that hear, think and speak for its agents."""

import inspect
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from livekit.agents import APIConnectOptions, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.voice.agent_session import SessionConnectOptions

from antiphon.agent_worker.flow.bound import BoundFlow
from antiphon.agent_worker.flow.model import Flow
from antiphon.agent_worker.flow.voice import Provider, Voice
from antiphon.agent_worker.providers.entry import ProviderProblem, Use, resolve
from antiphon.agent_worker.providers.fallbacks import (
    ATTEMPT_SECONDS,
    SPEECH_SECONDS,
    combined_llm,
    combined_realtime,
    combined_stt,
    combined_tts,
)
from antiphon.agent_worker.providers.loaded import Loaded, loaded
from antiphon.agent_worker.providers.options import arguments, keys_in
from antiphon.agent_worker.providers.plugin_faults import (
    mask_errors,
    must_answer,
    must_close,
    must_fail_as_api,
    must_speak_within,
)
from antiphon.agent_worker.providers.table import LlmFactory
from antiphon.agent_worker.turn_handling import turn_handling

UNHEARD_SECONDS = 5.0  # after the end of speech, without words of it
LLM_RETRIES = 1  # of a model without fallbacks

_COMBINED: dict[str, Callable[[Sequence[Any], vad.VAD | None, float | None], Any]] = {
    "stt": combined_stt,
    "llm": lambda made, _, seconds: combined_llm(made, seconds),
    "tts": lambda made, _, seconds: combined_tts(made, seconds),
    "realtime": lambda made, _detector, _seconds: combined_realtime(made),
}


@dataclass(slots=True)
class _Voices:
    """The objects of one session, shared by agents that have the same providers."""

    bound: BoundFlow
    process: Loaded
    made: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def of(self, agent: str) -> dict[str, Any]:
        """Return all of an agent; None for what it does not have."""
        flow = self.bound.flow
        voice = flow.voice_of(agent)
        detector = None if voice.vad is None else self.process.detector(voice.vad, flow.language)
        return {
            "vad": detector,
            "stt": self._one("stt", voice, agent, detector),
            "llm": self._one("realtime" if voice.realtime else "llm", voice, agent, detector),
            "tts": self._one("tts", voice, agent, detector),
        }

    def _one(self, kind: str, voice: Voice, agent: str, detector: vad.VAD | None) -> Any:
        provider: Provider | None = getattr(voice, kind)
        if provider is None:
            return None
        chain = [provider, *provider.fallbacks]
        per_agent = any(self.process.providers.find(kind, one.use).per_agent for one in chain)
        key = (kind, provider.model_dump_json(), agent if per_agent else "", str(id(detector)))
        if key not in self.made:
            made = [self._build(kind, one, agent, detector, alone=len(chain) == 1) for one in chain]
            try:
                self.made[key] = _COMBINED[kind](made, detector, provider.timeout_seconds)
            except ValueError as error:
                raise ProviderProblem(f"the {kind} providers do not go together: {error}") from error
        return self.made[key]

    def _build(
        self, kind: str, provider: Provider, agent: str, detector: vad.VAD | None, *, alone: bool
    ) -> Any:
        entry = self.process.providers.find(kind, provider.use)
        shared = self.process.share(entry)
        options = arguments(entry, provider, self.bound.flow.language)
        if entry.takes_use:
            options["use"] = Use(self.bound, agent, detector, shared)
        factory = resolve(entry.factory)
        if kind == "realtime" and "conn_options" in inspect.signature(factory).parameters:
            # the session has none for it; with a fallback it does not connect again to what failed
            options["conn_options"] = _within(provider, **({} if alone else {"max_retry": 0}))
        try:
            made = factory(**options)
        except (ValueError, TypeError) as error:
            raise ProviderProblem(f"the {kind} provider {provider.use!r} refuses: {error}") from error
        if secrets := keys_in(entry, provider):
            mask_errors(made, secrets)
        _mend(kind, made, provider)
        return made


def _mend(kind: str, made: Any, provider: Provider) -> None:
    match kind:
        case "stt":
            must_fail_as_api(made)
        case "llm":
            must_answer(made)
        case "tts":
            must_speak_within(made, provider.timeout_seconds or SPEECH_SECONDS)
        case "realtime":
            must_close(made)


def voice_of_agent(bound: BoundFlow, agent: str, userdata: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of Agent for the voice of an agent, where it differs from the session's.

    `session_options` has made the objects: this is a look-up. Raises ProviderProblem.
    """
    voices = _voices(bound, userdata)
    of_session = voices.of(bound.flow.first)
    return {kind: made for kind, made in voices.of(agent).items() if made is not of_session[kind]}


def llm_factory(flow: Flow, userdata: MutableMapping[str, Any]) -> LlmFactory:
    """Return the function that gives the agents of a flow their language models."""
    del flow
    return lambda bound, agent: _voices(bound, userdata).of(agent)["llm"]


def session_options(bound: BoundFlow, userdata: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of AgentSession for a flow; blocks for some milliseconds per provider.

    The plugins must have been imported (`import_plugins`). What providers share comes from `userdata`; it is
    loaded now if `prewarm` has not done it. Raises ProviderProblem.
    """
    voices = _voices(bound, userdata)
    flow = bound.flow
    for agent in flow.agents:
        voices.of(agent)  # now, and not at a hand-off: a client takes 50 ms
    turns = turn_handling(flow)
    first = flow.voice_of(flow.first)
    if first.realtime is not None and turns["turn_detection"] == "vad":
        turns["turn_detection"] = "realtime_llm"
    return {
        **voices.of(flow.first),
        "user_away_timeout": flow.silence.after_seconds if flow.silence is not None else None,
        # explicit, because the defaults may call a cloud service or generate answers that are discarded
        "turn_handling": turns,
        "conn_options": connect_options(first),
        "transcription_timeout": unheard_seconds(first),
    }


def connect_options(voice: Voice) -> SessionConnectOptions:
    """Return how long one attempt of each provider of an agent may take, and how many there are."""
    return SessionConnectOptions(
        stt_conn_options=_within(voice.stt),
        llm_conn_options=_within(voice.llm, max_retry=LLM_RETRIES),
        tts_conn_options=_within(voice.tts, max_retry=LLM_RETRIES),
    )


def unheard_seconds(voice: Voice) -> float | None:
    """Return how long words may take after the end of speech, None where nobody waits for them."""
    if voice.stt is None or voice.vad is None:
        return None
    return min(UNHEARD_SECONDS, voice.stt.timeout_seconds or UNHEARD_SECONDS)


def _within(provider: Provider | None, **options: Any) -> APIConnectOptions:
    seconds = (provider.timeout_seconds if provider is not None else None) or ATTEMPT_SECONDS
    return replace(DEFAULT_API_CONNECT_OPTIONS, timeout=seconds, **options)


def _voices(bound: BoundFlow, userdata: MutableMapping[str, Any]) -> _Voices:
    process = loaded(userdata)
    if process.voices is None or process.voices.bound is not bound:
        process.voices = _Voices(bound, process)
    found: _Voices = process.voices
    return found
