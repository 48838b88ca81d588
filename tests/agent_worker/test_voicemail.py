"""An answering machine is recognised by its words and the length of its speech."""

import asyncio
from typing import Any

import pytest
from livekit.agents import UserInputTranscribedEvent
from tests.agent_worker.told_model import Conversation, conversation, until

from antiphon.agent_worker import voicemail
from antiphon.agent_worker.voicemail import MachineWatch, says_machine, watch_for_machine
from antiphon.contracts.events.session import CloseReason

FLOW = """
voicemail: {%s}
agents: {host: {instructions: Help., greeting: Hello.}}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voicemail, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(voicemail, "QUIET_SECONDS", 0.02)


def watch(talk: Conversation) -> MachineWatch:
    settings = talk.call.bound.flow.voicemail
    assert settings is not None
    return watch_for_machine(talk.call, talk.session, settings)


def hears(talk: Conversation, text: str, *, final: bool = True) -> None:
    talk.session.emit("user_input_transcribed", UserInputTranscribedEvent(transcript=text, is_final=final))


@pytest.mark.parametrize(
    "text",
    [
        "You have reached the voicemail of Ada.",
        "Hi, this is Bob. I can't come to the phone right now.",
        "Please leave a message after the tone.",
        "The person you are calling is not available.",
        "Bitte hinterlassen Sie eine Nachricht nach dem Piepton.",
        " ".join(["word"] * 26),
    ],
)
def test_a_machine_is_found_by_what_it_says(text: str) -> None:
    assert says_machine(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello?",
        "Ada Lovelace speaking, who is there?",
        "I got your message, thanks.",
        "No, wait a moment.",
    ],
)
def test_a_person_is_no_machine(text: str) -> None:
    assert says_machine(text) is None


async def test_a_message_is_left_and_the_agent_hangs_up() -> None:
    async with conversation(FLOW % "say: Please call us back.") as talk:
        watch(talk)
        hears(talk, "You have reached the", final=False)
        hears(talk, "You have reached the mailbox of Ada")
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert talk.shown[-1] == "Please call us back."
        assert talk.record.ends == [CloseReason.VOICEMAIL]
        assert talk.record.detail == "a machine: it said 'mailbox'"


async def test_without_a_message_the_agent_just_hangs_up() -> None:
    async with conversation(FLOW % "within_seconds: 5") as talk:
        watch(talk)
        hears(talk, "leave a message after the tone")
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert talk.shown == ["None => host"]
        assert talk.record.ends == [CloseReason.VOICEMAIL]


async def test_a_speech_without_a_pause_is_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voicemail, "MOST_SECONDS", 0.05)
    async with conversation(FLOW % "within_seconds: 5") as talk:
        watch(talk)
        talk.session._update_user_state("speaking")
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert talk.record.ends == [CloseReason.VOICEMAIL]


async def test_a_person_goes_on_talking() -> None:
    async with conversation(FLOW % "within_seconds: 5") as talk:
        watch(talk)
        hears(talk, "hello, who is there")
        assert await talk.say("hello") == ["You said: hello"]


async def test_a_person_who_talks_with_the_agent_is_no_machine() -> None:
    async with conversation(FLOW % "within_seconds: 60") as talk:
        watch(talk)
        for _ in range(3):
            hears(talk, " ".join(["word"] * 20))
            assert await talk.say("hello") == ["You said: hello"]
            talk.session._update_agent_state("speaking")
            talk.session._update_agent_state("listening")
        assert talk.record.ends == []
        hears(talk, " ".join(["word"] * 20))
        hears(talk, " ".join(["word"] * 6))
        await asyncio.wait_for(talk.is_closed.wait(), 60)
        assert talk.record.detail == "a machine: it said 26 words at once"


async def test_what_is_said_later_is_not_searched() -> None:
    async with conversation(FLOW % "within_seconds: 0.05") as talk:
        watching: Any = watch(talk)
        await until(lambda: not watching._watches)
        hears(talk, "shall i leave a message")
        assert talk.record.ends == []
