"""The turn tracker, with the facts of several speeches in any order."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder.open_turn import Answer, Greeting, Utterance
from antiphon.recorder.turns import Fact, TurnTracker

SPEECHES = 5
KINDS = ("message", "unprompted", "reply")


@dataclass
class Script:
    """The facts of one speech in their own order, and the texts that its turn must have."""

    speech: str
    kind: str
    steps: list[str]
    texts: set[str] = field(default_factory=set)


@st.composite
def interleavings(draw: st.DrawFn) -> list[tuple[Script, str]]:
    scripts = []
    for number in range(draw(st.integers(1, SPEECHES))):
        kind = draw(st.sampled_from(KINDS))
        first = ["created", "begun"] if kind != "message" else ["created", "message", "begun"]
        middle = draw(st.lists(st.sampled_from(["generate", "answer", "tool"]), max_size=5))
        scripts.append(Script(f"s{number}", kind, [*first, *middle, "end"]))
    remaining = [list(script.steps) for script in scripts]
    order = []
    while any(remaining):
        index = draw(st.sampled_from([index for index, steps in enumerate(remaining) if steps]))
        order.append((scripts[index], remaining[index].pop(0)))
    return order


def greeted() -> TurnTracker:
    turns = TurnTracker("AJ_1")
    turns.speech_created("greeting")
    turns.agent_said("greeting", "host", Answer("Hello."))
    assert turns.speech_finished("greeting") == [Greeting("Hello.")]
    return turns


def play(turns: TurnTracker, script: Script, step: str, number: int) -> list[Fact]:
    speech, text = script.speech, f"<{script.speech} {number}>"
    acts: dict[str, Callable[[], list[Fact] | None]] = {
        "created": lambda: create(turns, script),
        "message": lambda: turns.user_said(speech, "host", Utterance(text)),
        "begun": lambda: turns.speech_began(speech, "host"),
        "generate": lambda: turns.text_generated(speech, text),
        "answer": lambda: turns.agent_said(speech, "host", Answer(text)),
        "tool": lambda: turns.tool_called(speech, "host", text),
        "end": lambda: turns.speech_finished(speech),
    }
    if step in ("message", "generate", "answer", "tool"):
        script.texts.add(text)
    return acts[step]() or []


def create(turns: TurnTracker, script: Script) -> list[Fact]:
    if script.kind == "reply":
        return turns.reply_created(script.speech, "host", transcribed=False)
    turns.speech_created(script.speech, awaits_message=script.kind == "message")
    return []


def content(turn: TurnSaved) -> str:
    texts = (turn.user_text, turn.assistant_text, turn.assistant_text_generated, *turn.tool_call_ids)
    return " ".join(text for text in texts if text)


@given(interleavings())
def test_every_turn_is_saved_once_with_the_texts_of_its_own_speech(order: list[tuple[Script, str]]) -> None:
    turns, facts = greeted(), list[Fact]()
    for number, (script, step) in enumerate(order):
        facts += play(turns, script, step, number)

    assert turns.open_turns == []
    assert turns.close() == []
    numbers = [fact.turn for fact in facts if isinstance(fact, TurnStarted)]
    assert numbers == list(range(1, len(numbers) + 1))
    saved = [fact for fact in facts if isinstance(fact, TurnSaved)]
    assert sorted(turn.turn for turn in saved) == numbers
    assert turns.saved == len(numbers)
    assert all(
        facts.index(start) < facts.index(turn)
        for start in facts
        if isinstance(start, TurnStarted)
        for turn in saved
        if turn.turn == start.turn
    )

    contents = [content(turn) for turn in saved]
    for script in {script.speech: script for script, _ in order}.values():
        (own,) = [text for text in contents if f"<{script.speech} " in text] or [""]
        assert all(text in own for text in script.texts)
        assert own.count("<") == own.count(f"<{script.speech} ")  # no foreign text


@given(interleavings(), st.data())
def test_closing_at_any_time_saves_what_is_open(order: list[tuple[Script, str]], data: st.DataObject) -> None:
    turns, facts = TurnTracker("AJ_1"), list[Fact]()
    until = data.draw(st.integers(0, len(order)))
    for number, (script, step) in enumerate(order[:until]):
        facts += play(turns, script, step, number)
    facts += turns.close()

    starts = [fact.turn for fact in facts if isinstance(fact, TurnStarted)]
    assert sorted(fact.turn for fact in facts if isinstance(fact, TurnSaved)) == starts
    assert turns.open_turns == []


@given(st.lists(st.sampled_from(["reply", "transcript", "end"]), max_size=30))
def test_transcripts_and_replies_in_any_order_lose_no_words(steps: list[str]) -> None:
    turns, facts, running, said = TurnTracker("AJ_1"), list[Fact](), list[str](), list[str]()
    for number, step in enumerate(steps):
        if step == "reply":
            running.append(f"s{number}")
            facts += turns.reply_created(f"s{number}", "host", transcribed=True)
        elif step == "transcript":
            said.append(f"<{number}>")
            facts += turns.user_said(None, "host", Utterance(said[-1]))
        elif running:
            facts += turns.speech_finished(running.pop(0))
    facts += turns.close()

    saved = sorted((fact for fact in facts if isinstance(fact, TurnSaved)), key=lambda turn: turn.turn)
    assert [turn.turn for turn in saved] == list(range(1, len(saved) + 1))
    assert sorted(turn.user_text for turn in saved if turn.user_text) == sorted(said)
