"""Recognisers that take over from one another within one stream, and the return to the first."""

import asyncio
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, LanguageCode, stt
from tests.agent_worker.doubles.driven import until

from antiphon.agent_worker.providers.fallbacks import combined_stt
from antiphon.agent_worker.providers.recognisers import Recognisers
from antiphon.agent_worker.providers.unheard import UTTERANCE_SECONDS

ONCE = APIConnectOptions(max_retry=0, timeout=5)
DEADLINE = 60
FRAME = rtc.AudioFrame(bytes(320), 16_000, 1, 160)


class Scripted(stt.STT[Any]):
    """A recogniser that says its name for each frame; `broken` ends its streams with an error.

    `deaf` lets it take audio without a word.
    """

    def __init__(self, name: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self._label = name
        self.broken = False
        self.deaf = False
        self.ends = False  # its streams end, without an error
        self.streams = 0
        self.frames = 0

    async def _recognize_impl(self, buffer: Any, **options: Any) -> stt.SpeechEvent:
        raise APIConnectionError("it only streams")

    def stream(self, *, language: Any = None, conn_options: APIConnectOptions = ONCE) -> "_Stream":
        """Open a stream."""
        self.streams += 1
        return _Stream(self, conn_options)


class _Stream(stt.RecognizeStream):
    def __init__(self, recogniser: Scripted, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=recogniser, conn_options=conn_options)
        self._recogniser = recogniser

    async def _run(self) -> None:
        if self._recogniser.broken:
            raise APIConnectionError(f"{self._recogniser.label} is broken")
        async for item in self._input_ch:
            if self._recogniser.broken:
                raise APIConnectionError(f"{self._recogniser.label} is broken")
            if self._recogniser.ends:
                return
            if isinstance(item, rtc.AudioFrame):
                self._recogniser.frames += 1
                if self._recogniser.deaf:
                    continue
                data = stt.SpeechData(language=LanguageCode("en"), text=self._recogniser.label)
                kind = stt.SpeechEventType.FINAL_TRANSCRIPT
                self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=[data]))


class Listener:
    """What a stream of a recogniser understood, in order."""

    def __init__(self, stream: stt.RecognizeStream) -> None:
        self.stream = stream
        self.texts: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.stream:
            self.texts += [one.text for one in event.alternatives or []]

    async def say(self) -> str:
        """Send a frame, and return what was understood."""
        count = len(self.texts)
        self.stream.push_frame(FRAME)
        await until(lambda: len(self.texts) > count)
        return self.texts[-1]

    async def close(self) -> None:
        """End the stream."""
        self.stream.end_input()
        async with asyncio.timeout(DEADLINE):
            await self._reading
        await self.stream.aclose()


def recognisers(*, retry_seconds: float = 0.0) -> tuple[Scripted, Scripted, Recognisers]:
    first, second = Scripted("first"), Scripted("second")
    return first, second, Recognisers([first, second], attempt_seconds=5, retry_seconds=retry_seconds)


async def test_the_first_recogniser_hears() -> None:
    _, second, both = recognisers()
    heard = Listener(both.stream(conn_options=ONCE))
    assert await heard.say() == "first"
    await heard.close()
    assert second.streams == 0


async def test_the_next_one_hears_when_the_first_fails_in_the_middle() -> None:
    first, _, both = recognisers(retry_seconds=1000)
    heard = Listener(both.stream(conn_options=ONCE))
    assert await heard.say() == "first"
    first.broken = True
    heard.stream.push_frame(FRAME)  # the one that it fails with
    await until(lambda: not both.is_available(0))
    heard.stream.push_frame(FRAME)
    await until(lambda: "second" in heard.texts)
    assert await heard.say() == "second"
    await heard.close()


async def test_audio_goes_on_to_the_next_one_at_the_moment_of_a_failure() -> None:
    first, _, both = recognisers(retry_seconds=1000)
    heard = Listener(both.stream(conn_options=ONCE))
    assert await heard.say() == "first"
    first.broken = True
    for _ in range(50):  # a frame in each round of the loop: some come when the stream has just ended
        heard.stream.push_frame(FRAME)
        await asyncio.sleep(0)
    await until(lambda: "second" in heard.texts)
    assert await heard.say() == "second"
    await heard.close()


async def test_words_that_the_first_did_not_understand_are_heard_by_the_next_one() -> None:
    first, second, both = recognisers(retry_seconds=1000)
    heard = Listener(both.stream(conn_options=ONCE))
    assert await heard.say() == "first"  # understood: nobody hears it again
    first.deaf = True
    for _ in range(20):
        heard.stream.push_frame(FRAME)
    await until(lambda: first.frames == 21)
    first.broken = True
    heard.stream.push_frame(FRAME)
    await until(lambda: heard.texts.count("second") == 21)
    assert await heard.say() == "second"
    await heard.close()
    assert second.frames == 22


async def test_only_the_newest_audio_is_heard_again() -> None:
    first, second, both = recognisers(retry_seconds=1000)
    first.deaf = True
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: first.streams == 1)
    second_long = rtc.AudioFrame(bytes(2 * 16_000), 16_000, 1, 16_000)
    for _ in range(60):
        heard.stream.push_frame(second_long)
    await until(lambda: first.frames == 60)
    first.broken = True
    heard.stream.push_frame(second_long)
    await until(lambda: second.frames > 0)
    await heard.close()
    assert second.frames == 5 + UTTERANCE_SECONDS


async def test_words_are_heard_by_the_next_one_when_the_audio_has_ended() -> None:
    first, _, both = recognisers(retry_seconds=1000)
    first.deaf = True
    heard = Listener(both.stream(conn_options=ONCE))
    heard.stream.push_frame(FRAME)
    await until(lambda: first.frames == 1)
    first.broken = True
    heard.stream.push_frame(FRAME)
    await heard.close()
    assert heard.texts == ["second", "second"]


async def test_one_that_ends_by_itself_has_failed() -> None:
    first, _, both = recognisers(retry_seconds=1000)
    first.ends = True
    heard = Listener(both.stream(conn_options=ONCE))
    assert await heard.say() == "second"
    assert not both.is_available(0)
    await heard.close()


async def test_the_first_hears_again_when_it_recovers() -> None:
    first, _, both = recognisers()
    first.broken = True
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: not both.is_available(0))
    heard.stream.push_frame(FRAME)
    await until(lambda: heard.texts == ["second"])
    assert await heard.say() == "second"
    first.broken = False
    async with asyncio.timeout(DEADLINE):
        while heard.texts[-1] != "first":
            await heard.say()
    assert both.is_available(0)
    assert await heard.say() == "first"
    await heard.close()


async def test_one_that_fails_again_is_not_used() -> None:
    first, _, both = recognisers()
    first.broken = True
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: not both.is_available(0))
    for _ in range(10):
        assert await heard.say() == "second"
    assert first.streams > 2  # it was tried
    await heard.close()


async def test_a_recogniser_that_failed_is_left_alone_for_a_while() -> None:
    first, _, both = recognisers(retry_seconds=1000)
    first.broken = True
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: not both.is_available(0))
    for _ in range(5):
        await heard.say()
    await heard.close()
    assert first.streams == 1


async def test_when_all_fail_the_error_names_them() -> None:
    first, second, both = recognisers()
    first.broken = second.broken = True
    with pytest.raises(APIError, match=r"all recognisers failed: first: .*; second: "):
        async with asyncio.timeout(DEADLINE), both.stream(conn_options=ONCE) as stream:
            await anext(stream)
    second.broken = False  # the next stream of the session finds it
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: second.streams == 2)
    assert await heard.say() == "second"
    await heard.close()


async def test_each_failure_is_one_error_on_record() -> None:
    first, second = Scripted("first"), Scripted("second")
    both = combined_stt([first, second], None, None)
    errors: list[Any] = []
    both.on("error", errors.append)
    first.broken = True
    heard = Listener(both.stream(conn_options=ONCE))
    await until(lambda: second.streams == 1)
    await heard.say()
    await heard.close()
    assert [(error.label, error.recoverable) for error in errors] == [("first", True)]
