"""Providers that take over from one another, in order; the first is used again when it recovers.

They are LiveKit's fallback adapters, with two differences. The failure of one provider is an error of the
session, a recoverable one, so that it is on record. A round through all is not repeated: the caller waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog
from livekit.agents import APIConnectOptions, llm, stt, tts, vad
from livekit.agents.llm.realtime_fallback_adapter import RealtimeModelFallbackAdapter
from livekit.agents.tts.fallback_adapter import FallbackChunkedStream
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from antiphon.agent_worker.providers.recognisers import Recognisers

log = structlog.get_logger(__name__)

ATTEMPT_SECONDS: Final = 10.0
SPEECH_SECONDS: Final = 5.0  # until a voice gives its first audio
_ONCE: Final = replace(DEFAULT_API_CONNECT_OPTIONS, max_retry=0)


class _Models(llm.FallbackAdapter):
    def chat(self, *, conn_options: APIConnectOptions = _ONCE, **request: Any) -> llm.LLMStream:
        return super().chat(conn_options=replace(conn_options, max_retry=0), **request)


class _Voices(tts.FallbackAdapter):
    def __init__(self, voices: list[tts.TTS[Any]], seconds: float) -> None:
        super().__init__(voices, max_retry_per_tts=0)
        self.seconds = seconds

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = _ONCE) -> FallbackChunkedStream:
        return super().synthesize(text, conn_options=self._once(conn_options))

    def stream(self, *, conn_options: APIConnectOptions = _ONCE) -> Any:
        return super().stream(conn_options=self._once(conn_options))

    def _once(self, conn_options: APIConnectOptions) -> APIConnectOptions:
        return replace(conn_options, max_retry=0, timeout=self.seconds)


def combined_llm(models: Sequence[llm.LLM[Any]], seconds: float | None) -> llm.LLM[Any]:
    """Return one model for several."""
    if len(models) == 1:
        return models[0]
    adapter = _Models(list(models), attempt_timeout=seconds or ATTEMPT_SECONDS)
    adapter.on("llm_availability_changed", partial(_log_availability, "llm", lambda event: event.llm))
    _report_failures(adapter, models, lambda index: adapter._status[index].available)
    return adapter


def combined_stt(
    recognisers: Sequence[stt.STT[Any]], detector: vad.VAD | None, seconds: float | None
) -> stt.STT[Any]:
    """Return one recogniser for several; one that takes whole sentences gets them from the detector."""
    streams: list[stt.STT[Any]] = []
    for one in recognisers:
        if not one.capabilities.streaming:
            if detector is None:
                raise ValueError("a recogniser of whole sentences needs a `vad`")
            adapted = stt.StreamAdapter(stt=one, vad=detector)
            streams.append(adapted)
        else:
            streams.append(one)
    if len(streams) == 1:
        return streams[0]
    adapter = Recognisers(streams, attempt_seconds=seconds or ATTEMPT_SECONDS)
    _report_failures(adapter, streams, adapter.is_available)
    return adapter


def combined_tts(voices: Sequence[tts.TTS[Any]], seconds: float | None) -> tts.TTS[Any]:
    """Return one voice for several."""
    if len(voices) == 1:
        return voices[0]
    adapter = _Voices(list(voices), seconds or SPEECH_SECONDS)
    adapter.on("tts_availability_changed", partial(_log_availability, "tts", lambda event: event.tts))
    _report_failures(adapter, voices, lambda index: adapter._status[index].available)
    return adapter


def combined_realtime(models: Sequence[llm.RealtimeModel]) -> llm.RealtimeModel:
    """Return one realtime model for several. Raises ValueError when they hear or speak in different ways."""
    if len(models) == 1:
        return models[0]
    adapter = RealtimeModelFallbackAdapter(list(models))
    adapter.on(
        "realtime_availability_changed",
        partial(_log_availability, "realtime", lambda event: event.realtime_model),
    )
    return adapter


def _report_failures(adapter: Any, providers: Sequence[Any], is_available: Callable[[int], bool]) -> None:
    """Emit the first failure of each provider as an error of the adapter, from which it recovers."""

    def report(index: int, error: Any) -> None:
        if is_available(index):  # else it is the probe of a provider that is known to fail
            adapter.emit("error", error.model_copy(update={"recoverable": True}))

    for index, provider in enumerate(providers):
        provider.on("error", partial(report, index))


def _log_availability(kind: str, provider_of: Callable[[Any], Any], event: Any) -> None:
    label = str(provider_of(event).label)
    if event.available:
        log.info("provider.recovered", kind=kind, provider=label)
    else:
        log.warning("provider.failed", kind=kind, provider=label)
