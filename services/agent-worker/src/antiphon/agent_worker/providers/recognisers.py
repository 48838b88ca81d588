"""Recognisers that take over from one another within one stream of audio.

LiveKit's adapter stays with a fallback for the rest of the call, and what was said to the one that fails is
lost. This one gives it to the fallback. It tries the better ones again, with the caller's next words, and
returns to one that has understood them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from livekit.agents import APIConnectionError, APIConnectOptions, stt
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import aio

from antiphon.agent_worker.providers.unheard import UTTERANCE_SECONDS, Unheard, push
from antiphon.chassis.background import end_task

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 20.0  # before a recogniser that failed is tried again
_RETRY_INTERVAL: Final = 0.5


class Recognisers(stt.FallbackAdapter):
    """Several recognisers as one, in order of preference."""

    def __init__(
        self,
        recognisers: Sequence[stt.STT[Any]],
        *,
        attempt_seconds: float,
        retry_seconds: float = RETRY_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(list(recognisers), attempt_timeout=attempt_seconds, max_retry_per_stt=0)
        self.recognisers = tuple(recognisers)
        self.retry_seconds = retry_seconds
        self._now = now
        self._failed_at: dict[int, float] = {}

    def is_available(self, index: int) -> bool:
        """Return whether a recogniser has not failed, or has recovered since."""
        return index not in self._failed_at

    def failed(self, index: int, error: BaseException) -> None:
        """Note that a recogniser failed; it is tried again later."""
        if self.is_available(index):
            label = self.recognisers[index].label
            log.warning(
                "provider.failed",
                kind="stt",
                provider=label,
                error=type(error).__name__,
                pii_error=str(error),
            )
        self._failed_at[index] = self._now()

    def recovered(self, index: int) -> None:
        """Note that a recogniser works."""
        if self._failed_at.pop(index, None) is not None:
            log.info("provider.recovered", kind="stt", provider=self.recognisers[index].label)

    def due(self, serving: int) -> int | None:
        """Return a better recogniser than the one that serves, if one failed long enough ago."""
        for index in range(serving):
            if self._now() - self._failed_at.get(index, float("-inf")) >= self.retry_seconds:
                return index
        return None

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Return a stream that one recogniser after the other serves."""
        return _Stream(self, language, conn_options)


class _Stream(stt.RecognizeStream):
    def __init__(
        self, adapter: Recognisers, language: NotGivenOr[str], conn_options: APIConnectOptions
    ) -> None:
        super().__init__(stt=adapter, conn_options=conn_options, sample_rate=NOT_GIVEN)
        self._adapter = adapter
        self._language = language
        self._open: list[stt.RecognizeStream] = []  # what the audio goes to
        self._unheard = Unheard(adapter._attempt_timeout + UTTERANCE_SECONDS)
        self._ended = False  # all audio has been given to the open streams

    async def _run(self) -> None:
        serving = asyncio.create_task(self._serve(), name="recognisers-serving")
        forwarding = asyncio.create_task(self._forward(), name="recognisers")
        try:
            await asyncio.wait((forwarding, serving), return_when=asyncio.FIRST_EXCEPTION)
            for task in (forwarding, serving):
                if task.done():
                    task.result()
        finally:
            await end_task(forwarding)
            await end_task(serving)

    async def _serve(self) -> None:
        adapter = self._adapter
        count = len(adapter.recognisers)
        order = [index for index in range(count) if adapter.is_available(index)] or list(range(count))
        errors: list[str] = []
        while order:
            serving = order.pop(0)
            try:
                better = await self._serve_with(serving)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the next one takes over
                adapter.failed(serving, error)
                errors.append(f"{adapter.recognisers[serving].label}: {error}")
                continue
            if better is None:
                return  # the audio has ended
            order = [better, *(index for index in range(better + 1, count) if adapter.is_available(index))]
            errors.clear()
        raise APIConnectionError(f"all recognisers failed: {'; '.join(errors)}")

    async def _serve_with(self, serving: int) -> int | None:
        """Recognise with one until the audio ends (None) or a better one has recovered (its index)."""
        async with self._opened(serving, replay=True) as stream:
            trial: asyncio.Task[None] | None = None
            trying = serving
            try:
                async for event in self._events(stream):
                    self._event_ch.send_nowait(event)
                    if _is_final(event):
                        self._unheard.clear()
                    due = self._adapter.due(serving)
                    if trial is None and due is not None:
                        trying = due
                        trial = asyncio.create_task(self._try(due), name="recogniser-trial")
                    elif trial is not None and trial.done():
                        if self._adapter.is_available(trying) and _is_final(event):
                            return trying
                        if not self._adapter.is_available(trying):
                            trial = None
                return None
            finally:
                if trial is not None:
                    await aio.cancel_and_wait(trial)

    async def _try(self, index: int) -> None:
        """Recognise with one that failed until it has understood something."""
        try:
            async with self._opened(index) as stream:
                async for event in self._events(stream):
                    if _is_final(event):
                        self._adapter.recovered(index)
                        return
        except Exception as error:  # noqa: BLE001 - as above
            self._adapter.failed(index, error)

    async def _events(self, stream: stt.RecognizeStream) -> AsyncIterator[stt.SpeechEvent]:
        """Yield the events of one; raise when it ends before the audio does."""
        async for event in stream:
            yield event
        if not self._input_ch.closed:
            raise APIConnectionError("it ended its stream")

    def _opened(self, index: int, *, replay: bool = False) -> "_Opened":
        options = replace(
            self._conn_options,
            max_retry=0,
            timeout=self._adapter._attempt_timeout,
            retry_interval=_RETRY_INTERVAL,
        )
        stream = self._adapter.recognisers[index].stream(language=self._language, conn_options=options)
        began = self.start_time_offset + (time.time() - self._start_time)
        if replay:
            began = max(0.0, began - self._unheard.seconds)
            self._unheard.replay(stream)
        stream.start_time_offset = began
        if self._ended:
            stream.end_input()
        return _Opened(stream, self._open)

    async def _forward(self) -> None:
        async for item in self._input_ch:
            self._unheard.add(item)
            for stream in self._open:
                if _takes_audio(stream):
                    push(stream, item)
        self._ended = True
        for stream in self._open:
            if _takes_audio(stream):
                stream.end_input()

    async def _metrics_monitor_task(self, event_aiter: Any) -> None:
        async for _ in event_aiter:  # each recogniser reports its own usage
            pass


class _Opened:
    """A stream that audio goes to while it is open."""

    def __init__(self, stream: stt.RecognizeStream, open_streams: list[stt.RecognizeStream]) -> None:
        self._stream = stream
        self._open = open_streams

    async def __aenter__(self) -> stt.RecognizeStream:
        self._open.append(self._stream)
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        self._open.remove(self._stream)
        await self._stream.aclose()


def _takes_audio(stream: stt.RecognizeStream) -> bool:
    """Return whether a stream has not ended: it closes its events before its reader sees the end."""
    return not stream._event_ch.closed


def _is_final(event: stt.SpeechEvent) -> bool:
    return event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and any(one.text for one in event.alternatives)
