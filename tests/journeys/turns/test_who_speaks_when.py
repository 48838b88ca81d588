"""When the agent answers, and what interrupts it, on real audio: each pattern with each strategy."""

import pytest
from livekit import rtc
from tests.journeys.turns.conftest import Documented, Journeys
from tests.journeys.turns.conversation import Conversation
from tests.journeys.turns.flows import STORY, TALE

from antiphon.agent_worker.providers.sphinx_stt import UNCLEAR

PAUSE_SECONDS = 2.0  # longer than silence or the recogniser wait, shorter than the model does
SOUND = "la la la la la la la la"  # no words of the flow


async def test_pause_in_the_middle_of_a_sentence(of_each: Journeys, documented: Documented) -> None:
    async def journey(call: Conversation) -> str:
        await call.take_turn("i would like to book", PAUSE_SECONDS, "a table for two")
        [first] = await call.turns(1)
        if first["user_text"] == "i would like to book":
            assert (await call.turns(2))[1]["user_text"] == "a table for two"
            return "two turns"
        assert first["user_text"] == "i would like to book a table for two"
        assert first["assistant_text"] == "Good, a table for two."
        assert call.heard == ["i would like to book", "a table for two"]
        return "one turn"

    assert await of_each(journey, "any") == documented("a pause in the middle of a sentence")


async def test_words_over_the_agent(of_each: Journeys, documented: Documented) -> None:
    async def journey(call: Conversation) -> str:
        await call.until_it_answers("tell me a long story", by=call.type)
        await call.take_turn("stop please")
        tale, stopped = await call.turns(2)
        assert tale["interrupted"] is True
        assert TALE.startswith(tale["assistant_text"].strip()[:10])
        assert len(tale["assistant_text"]) < len(TALE)
        assert (stopped["user_text"], stopped["assistant_text"]) == ("stop please", "I have stopped.")
        return "it stops and answers"

    assert await of_each(journey, "any") == documented("barge-in: words over the agent")


async def test_okay_over_the_agent(of_each: Journeys, documented: Documented) -> None:
    async def journey(call: Conversation) -> str:
        call.must_understand = False  # so short a word is often not, on a busy machine
        await call.until_it_answers("tell me a story", by=call.type)
        await call.say("okay", 1.0, "okay")
        [story] = await call.turns(1)
        assert (story["assistant_text"], story["interrupted"]) == (STORY, False)
        heard = call.heard
        # it is on record, but no part of what is said next
        await call.take_turn("stop please")
        assert (await call.turns(2))[1]["user_text"] == call.heard[-1]
        if call.by_hand:
            assert heard == []
            return "it does not hear it"
        assert heard
        assert set(heard) <= {"okay", UNCLEAR}
        return "it goes on"

    assert await of_each(journey, "two-words") == documented(
        "backchannel: “okay” over the agent, with `min_words: 2`"
    )


async def test_sound_over_the_agent(of_each: Journeys, documented: Documented) -> None:
    async def journey(call: Conversation) -> str:
        call.must_understand = False  # it cannot be
        await call.until_it_answers("tell me a story", by=call.type)
        if call.by_hand:
            await call.ask("start_turn")
            await call.say(SOUND)
            await call.ask("cancel_turn")
            [story] = await call.turns(1)
            assert story["interrupted"] is True
            assert call.of_type("agent_false_interruption") == []
            return "it stops"
        await call.say(SOUND)
        [story] = await call.turns(1)
        assert (story["assistant_text"], story["interrupted"]) == (STORY, False)
        assert {sound["resumed"] for sound in call.of_type("agent_false_interruption")} == {True}
        return "it pauses and goes on"

    happened = await of_each(journey, "any")
    assert happened == documented("false interruption: a sound without words, a turn that is cancelled")


async def test_speech_that_nobody_can_interrupt(of_each: Journeys, documented: Documented) -> None:
    async def journey(call: Conversation) -> str:
        await call.until_it_answers("tell me a story", by=call.type)
        if call.by_hand:
            with pytest.raises(rtc.RpcError, match="wait until it has finished") as refused:
                await call.ask("start_turn")
            assert refused.value.code == 409
        await call.say("stop please")
        await call.type("a table for two")
        story, typed = await call.turns(2)
        assert (story["assistant_text"], story["interrupted"]) == (STORY, False)
        assert (typed["user_text"], typed["assistant_text"]) == ("a table for two", "For two.")
        assert call.heard == []
        return "`start_turn` is refused (409)" if call.by_hand else "it does not hear it"

    assert await of_each(journey, "none") == documented("words over the agent, with `interruption: false`")
