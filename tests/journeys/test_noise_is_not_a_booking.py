"""Noise and speech outside the flow call no tool and get the fallback reply; a goodbye ends the call."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller

RATE = 22_050  # Hz, the synthetic caller's
FALLBACK = "I am sorry, I did not catch that."


def _cough() -> bytes:
    random, seconds = np.random.default_rng(7), np.arange(RATE // 2) / RATE
    sound = random.normal(size=RATE // 2) * np.minimum(seconds / 0.01, 1) * np.exp(-seconds / 0.1)
    return bytes((sound / np.abs(sound).max() * 20_000).astype(np.int16).tobytes())


async def test_noise_is_not_a_booking(
    api: SessionApi, to_the_end: Callable[[str], Awaitable[list[Json]]]
) -> None:
    created = await api.create("booking", "ada")
    streamed = asyncio.ensure_future(to_the_end(created["session_id"]))
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=40)
        assert (await caller.say_until_understood("hello"))[0].text.startswith(
            "Hello. Would you like to book a table?"
        )
        await caller.say_until_understood("i would like to book a table for five")
        asked = await caller.say_until_understood("tomorrow at seven")
        assert asked[0].text.startswith("A table for five, tomorrow at seven. Shall I book it?")
        await caller.microphone.play(_cough())
        other = await caller.converse("what is the weather like in paris today")
        assert other[0].text.startswith(FALLBACK)
        assert (await caller.say_until_understood("no thank you"))[0].text.startswith(
            "Very well, I have not booked it."
        )
        goodbye = await caller.say_until_understood("thank you good bye")
        assert goodbye[0].text == "Thank you for calling. Good bye."
        assert await caller.wait_until_gone(timeout_seconds=10)

    events = await streamed
    called = [event["data"]["name"] for event in events if event["type"] == "tool.started"]
    assert called == ["end_call"]
    unclear = [
        e["data"] for e in events if e["type"] == "turn.saved" and e["data"]["user_text"] == "(unclear)"
    ]
    assert all(turn["assistant_text"].startswith(FALLBACK) for turn in unclear)
    assert events[-1]["type"] == "session.closed"
