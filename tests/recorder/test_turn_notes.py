"""A turn is in the journal while it lasts: its start at once, then what is known of it, often."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.silent_voice import SECONDS_PER_WORD, SilentPlayer, SilentTTS
from tests.recorder.recorded_session import RecordedSession, recorded_session
from tests.recorder.test_recording import Host, of_type
from tests.recorder.test_turns_overlap import give_voice

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentStateChanged
from antiphon.contracts.events.tool import ToolStarted
from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder.livekit_internals import INTERNALS

SENTENCE = "one two three four five six seven eight nine ten"


class Notes:
    """The notes that a session writes; they go to the journal as well."""

    def __init__(self, recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[str, TurnSaved]] = []
        self._note = recorded.writer.note
        monkeypatch.setattr(recorded.writer, "note", self._on_note)

    def _on_note(self, key: str, event: Event, *, at: float | None = None) -> None:
        if isinstance(event, TurnSaved):
            self.written.append((key, event))
        self._note(key, event, at=at)

    @property
    def newest(self) -> TurnSaved:
        return self.written[-1][1]

    async def until(self, condition: Callable[[TurnSaved], Any]) -> TurnSaved:
        async with asyncio.timeout(60):
            while not (self.written and condition(self.newest)):  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.02)
        return self.newest


@pytest.fixture
async def spoken(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RecordedSession]:
    """A session that speaks, and gets text."""
    async with recorded_session(bus, nats_server.url, tmp_path, tts=SilentTTS()) as recorded:
        give_voice(recorded)
        yield recorded


async def test_notes_have_what_was_heard_so_far_and_all_that_was_generated(
    spoken: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(spoken, monkeypatch)
    await spoken.start(Host())
    reply = spoken.session.generate_reply(user_input=SENTENCE)
    at_first = await notes.until(lambda turn: True)
    half = await notes.until(lambda turn: "three" in (turn.assistant_text or ""))
    await reply
    (turn,) = of_type(TurnSaved, await spoken.finish())

    assert (at_first.user_text, at_first.assistant_text, at_first.recovered) == (SENTENCE, None, True)
    assert (half.turn, half.epoch, half.agent_id) == (1, "AJ_1", "host")
    assert half.assistant_text_generated == f"You said: {SENTENCE}"
    assert f"You said: {SENTENCE}".startswith(half.assistant_text or "")
    assert "ten" not in (half.assistant_text or "")
    assert {key for key, _ in notes.written} == {"turn:AJ_1:1"}
    words = len(SENTENCE.split()) + 2
    assert len(notes.written) <= words * SECONDS_PER_WORD / 0.25 + 5  # a few times a second
    assert (turn.assistant_text, turn.recovered) == (f"You said: {SENTENCE}", False)


async def test_note_of_an_unchanged_turn_is_written_once(
    recorded: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(recorded, monkeypatch)
    async with asyncio.timeout(60):
        await recorded.start(Host())
        recorded.session.output.audio = SilentPlayer()  # without a voice nothing is said
        handle = recorded.session.generate_reply(user_input="hello")
        await notes.until(lambda turn: turn.assistant_text_generated)
        await handle
        count = len(notes.written)
        await asyncio.sleep(0.8)
    assert len(notes.written) == count


async def test_note_in_the_middle_of_a_turn_has_its_tool_calls_and_earlier_answers(
    spoken: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(spoken, monkeypatch)
    await spoken.start(Host())
    reply = spoken.session.generate_reply(user_input='book({"people": 2})')
    note = await notes.until(lambda turn: turn.assistant_text)
    await reply

    assert len(note.tool_call_ids) == 1
    assert "Done: table for 2".startswith(note.assistant_text or "")
    assert note.assistant_text_generated == "Done: table for 2"


async def test_turn_saved_voids_its_note(spoken: RecordedSession, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = []
    write = spoken.writer.write

    def on_write(event: Event, *, at: float | None = None, settles: str | None = None) -> None:
        settled.append((type(event), settles))
        write(event, at=at, settles=settles)

    monkeypatch.setattr(spoken.writer, "write", on_write)
    await spoken.start(Host())
    await spoken.say("hello")
    await spoken.finish()

    assert [pair for pair in settled if pair[1] is not None] == [(TurnSaved, "turn:AJ_1:1")]


async def test_greeting_has_no_note(spoken: RecordedSession, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes(spoken, monkeypatch)
    await spoken.start(Host())
    await spoken.session.say("Hello, this is the restaurant.")
    assert notes.written == []


async def test_turn_starts_before_everything_that_it_causes(recorded: RecordedSession) -> None:
    await recorded.start(Host())
    await recorded.session.say("Hello.")
    await recorded.say('book({"people": 2})')
    await recorded.session.say("Are you still there?")
    events = await recorded.finish()

    first, second = of_type(TurnStarted, events)
    assert (first.turn, first.user_text, first.input) == (1, 'book({"people": 2})', "text")
    assert (second.turn, second.user_text, second.input) == (2, None, None)
    assert events.index(first) < events.index(of_type(ToolStarted, events)[0])
    saved = of_type(TurnSaved, events)
    between = events[events.index(saved[0]) : events.index(second)]
    assert [event for event in of_type(AgentStateChanged, between) if event.new_state == "speaking"] == []
    assert events.index(second) < events.index(saved[1])
    assert [turn.epoch for turn in saved] == ["AJ_1", "AJ_1"]


async def test_without_livekits_synchroniser_notes_have_nothing_heard(
    spoken: RecordedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: Any) -> None:
        raise AttributeError("renamed in this version")

    monkeypatch.setitem(INTERNALS, "heard", replace(INTERNALS["heard"], find=absent))
    notes = Notes(spoken, monkeypatch)
    await spoken.start(Host())
    reply = spoken.session.generate_reply(user_input="one two three four")
    await notes.until(lambda turn: turn.assistant_text_generated)
    await asyncio.sleep(0.8)  # it speaks
    assert notes.newest.assistant_text is None
    await reply
    (turn,) = of_type(TurnSaved, await spoken.finish())
    assert turn.assistant_text == "You said: one two three four"
    assert spoken.recording.guard.errors == 0
