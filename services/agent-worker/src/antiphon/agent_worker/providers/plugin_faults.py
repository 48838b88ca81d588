"""Faults that plugins pass over: no answer, no audio in time, a foreign error, one at the end, a key in it.

Each function changes one object of a plugin, for all of its requests; what the framework does with an error
(retries, an event, a fallback) then takes its course.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import aiohttp
import structlog
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError, llm, stt, tts
from livekit.agents.utils import aio

from antiphon.agent_worker.providers.redact import mask_error
from antiphon.chassis.background import end_task

log = structlog.get_logger(__name__)

_DEAF: Final = "antiphon_deaf"  # an event of a recogniser
_LOOK_SECONDS: Final = 0.05  # between two looks at whether audio has come


def must_answer(model: llm.LLM[Any]) -> None:
    """Let a model fail when it ends without a word, as after a page of a proxy with status 200."""
    chat = model.chat

    def checked(**request: Any) -> llm.LLMStream:
        stream = chat(**request)
        run = stream._run

        async def answered() -> None:
            await run()
            if not stream._event_ch.output_sent:
                raise APIConnectionError(f"{model.label} gave no answer")

        stream._run = answered  # type: ignore[method-assign]
        return stream

    model.chat = checked  # type: ignore[method-assign]


def report_deaf(recogniser: stt.STT[Any]) -> None:
    """Let the open streams of a recogniser fail, because it gives no words for speech."""
    recogniser.emit(_DEAF)


def must_fail_as_api(recogniser: stt.STT[Any]) -> None:
    """Let the streams of a recogniser end with an APIError: after any other error none is opened again.

    They also end when it is reported as deaf.
    """
    open_stream = recogniser.stream

    def streamed(**options: Any) -> stt.RecognizeStream:
        stream = open_stream(**options)
        run = stream._run

        async def checked() -> None:
            try:
                await _unless_deaf(recogniser, run)
            except APIError:
                raise
            except Exception as error:
                raise _api_error(recogniser.label, error) from error

        stream._run = checked  # type: ignore[method-assign]
        return stream

    recogniser.stream = streamed  # type: ignore[method-assign]


async def _unless_deaf(recogniser: stt.STT[Any], run: Callable[[], Awaitable[None]]) -> None:
    """Run a stream until it ends, or is reported as deaf; it is then connected again, or replaced."""
    deaf = asyncio.Event()
    recogniser.on(_DEAF, deaf.set)
    running = asyncio.ensure_future(run())
    reported = asyncio.ensure_future(deaf.wait())
    try:
        await asyncio.wait((running, reported), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        raise APIConnectionError(f"{recogniser.label} gave no words while the caller spoke")
    finally:
        recogniser.off(_DEAF, deaf.set)
        reported.cancel()
        await end_task(running)


def _api_error(label: str, error: Exception) -> APIError:
    message = f"{label}: {str(error) or repr(error)}"
    if isinstance(error, aiohttp.ClientResponseError):
        return APIStatusError(message, status_code=error.status)
    return APIConnectionError(message)


def must_speak_within(voice: tts.TTS[Any], seconds: float) -> None:
    """Let a voice fail when it gives no audio within some seconds of its text."""
    late = f"{voice.label} gave no audio within {seconds:g} s"
    synthesize, open_stream = voice.synthesize, voice.stream

    def spoken(text: str, **options: Any) -> tts.ChunkedStream:
        speech = synthesize(text, **options)
        began = time.perf_counter()
        _time(speech, lambda: began, seconds, late)
        return speech

    def streamed(**options: Any) -> tts.SynthesizeStream:
        stream = open_stream(**options)
        _time(stream, lambda: stream._started_time, seconds, late)
        return stream

    voice.synthesize = spoken  # type: ignore[method-assign]
    voice.stream = streamed  # type: ignore[method-assign]


def _time(
    speech: tts.ChunkedStream | tts.SynthesizeStream, began: Callable[[], float], seconds: float, late: str
) -> None:
    """Limit how long a speech takes to its first audio; `began` returns 0 before it has a text."""
    run = speech._run

    async def timed(emitter: tts.AudioEmitter) -> None:
        running = asyncio.ensure_future(run(emitter))
        try:
            while not running.done() and not emitter.pushed_duration():
                await asyncio.wait([running], timeout=_LOOK_SECONDS)
                waited = time.perf_counter() - began() if began() else 0.0
                if waited > seconds and not running.done() and not emitter.pushed_duration():
                    raise APITimeoutError(late)
            await running
        finally:
            await aio.cancel_and_wait(running)

    speech._run = timed  # type: ignore[method-assign, assignment]


def must_close(model: llm.RealtimeModel) -> None:
    """Let the sessions of a realtime model close after a failure: an error would keep the call open."""
    open_session = model.session

    def session(**options: Any) -> llm.RealtimeSession[Any]:
        opened = open_session(**options)
        close = opened.aclose

        async def closed() -> None:
            try:
                await close()
            except Exception as error:  # noqa: BLE001 - the session has emitted it when it happened
                fields = {"error": type(error).__name__, "pii_error": str(error)}
                log.debug("provider.closed_after_failure", provider=model.label, **fields)

        opened.aclose = closed  # type: ignore[method-assign]
        return opened

    model.session = session  # type: ignore[method-assign]


def mask_errors(provider: Any, secrets: frozenset[str]) -> None:
    """Mask secrets in the errors of a provider, before any other handler logs or records them."""
    if not isinstance(provider, llm.RealtimeModel):
        provider.on("error", partial(_mask, secrets))
        return
    open_session = provider.session

    def session(**options: Any) -> Any:
        opened = open_session(**options)
        opened.on("error", partial(_mask, secrets))
        return opened

    provider.session = session  # type: ignore[method-assign]


def _mask(secrets: frozenset[str], event: Any) -> None:
    mask_error(event.error, secrets)
