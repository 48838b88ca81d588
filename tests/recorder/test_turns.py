"""The turn tracker, called in the order in which LiveKit emits events."""

from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.turns import Answer, Finished, Greeting, TurnTracker, Utterance


def asked(text: str) -> Utterance:
    return Utterance(text, language="en", confidence=0.9, metrics={"transcription_delay": 0.1})


def saved(finished: list[Finished]) -> TurnSaved:
    (turn,) = finished
    assert isinstance(turn, TurnSaved)
    return turn


def greeted() -> TurnTracker:
    turns = TurnTracker()
    turns.speech_started("s0")
    turns.text_generated("s0", "Hello.")
    assert turns.agent_said("s0", "host", Answer("Hello.")) == []
    assert turns.speech_finished("s0") == [Greeting("Hello.")]
    return turns


def ask(turns: TurnTracker, speech: str, text: str) -> list[Finished]:
    turns.speech_started(speech, is_reply=True)
    return turns.user_said(speech, "host", asked(text))


def test_turn_is_saved_when_its_speech_ends() -> None:
    turns = greeted()
    assert ask(turns, "s1", "hello") == []
    turns.text_generated("s1", "Hi ")
    turns.text_generated("s1", "there.")
    assert turns.agent_said("s1", "host", Answer("Hi there.", metrics={"e2e_latency": 0.5})) == []

    turn = saved(turns.speech_finished("s1"))

    assert turn == TurnSaved(
        turn=1,
        agent_id="host",
        user_text="hello",
        assistant_text="Hi there.",
        assistant_text_generated="Hi there.",
        language="en",
        confidence=0.9,
        metrics={"transcription_delay": 0.1, "e2e_latency": 0.5},
    )


def test_interrupted_greeting_is_not_a_turn() -> None:
    turns = TurnTracker()
    turns.speech_started("s0")
    turns.text_generated("s0", "Hello. Who is speaking?")
    turns.agent_said("s0", "host", Answer("Hello.", interrupted=True))
    assert turns.speech_finished("s0", interrupted=True) == [Greeting("Hello. Who is speaking?")]
    ask(turns, "s1", "me")
    assert saved(turns.speech_finished("s1")).turn == 1


def test_unfinished_greeting_precedes_first_turn() -> None:
    turns = TurnTracker()
    turns.speech_started("s0")
    turns.agent_said("s0", "host", Answer("Hel", interrupted=True))
    assert ask(turns, "s1", "stop") == [Greeting("Hel")]


def test_tool_turn_has_answers_before_and_after_tool() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.agent_said("s1", "host", Answer("One moment.", metrics={"e2e_latency": 0.4}))
    turns.tool_called("call_1")
    turns.tool_called("call_1")
    turns.agent_said("s1", "host", Answer("Done.", metrics={"e2e_latency": 9.0}))

    turn = saved(turns.speech_finished("s1"))

    assert turn.assistant_text == "One moment. Done."
    assert turn.tool_call_ids == ["call_1"]
    assert turn.metrics["e2e_latency"] == 0.4


def test_speech_of_tool_belongs_to_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.speech_started("s2", parent="s1")
    turns.agent_said("s2", "host", Answer("Looking."))
    assert turns.speech_finished("s2") == []
    turns.agent_said("s1", "host", Answer("Done."))
    assert saved(turns.speech_finished("s1")).assistant_text == "Looking. Done."


def test_handoff_turn_ends_after_next_agents_greeting() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.agent_said("s1", "host", Answer("One moment."))
    turns.handoff_started()
    assert turns.speech_finished("s1") == []
    turns.speech_started("s2", parent="s1")  # on_enter runs during the speech that handed over
    turns.agent_said("s2", "manager", Answer("This is the manager."))
    assert turns.speech_finished("s2") == []

    turn = saved(turns.handoff_finished())

    assert turn.assistant_text == "One moment. This is the manager."
    assert turn.agent_id == "host"


def test_handoff_turn_ends_when_next_agent_is_silent() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.handoff_started()
    assert turns.speech_finished("s1") == []
    turn = saved(turns.handoff_finished())
    assert turn.assistant_text is None


def test_handoff_turn_waits_for_speech_that_outlasts_on_enter() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.handoff_started()
    turns.speech_finished("s1")
    turns.speech_started("s2", parent="s1")
    assert turns.handoff_finished() == []
    turns.agent_said("s2", "manager", Answer("This is the manager."))
    assert saved(turns.speech_finished("s2")).assistant_text == "This is the manager."


def test_interrupted_turn_has_spoken_and_generated_text() -> None:
    turns = greeted()
    ask(turns, "s1", "tell me everything")
    turns.text_generated("s1", "There is a long story to tell.")
    turns.agent_said("s1", "host", Answer("There is a long", interrupted=True))

    turn = saved(turns.speech_finished("s1", interrupted=True))

    assert turn.interrupted
    assert turn.assistant_text == "There is a long"
    assert turn.assistant_text_generated == "There is a long story to tell."


def test_answer_interrupted_before_playout_is_a_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "well")
    turns.text_generated("s1", "Yes?")
    turn = saved(turns.speech_finished("s1", interrupted=True))
    assert (turn.user_text, turn.assistant_text, turn.assistant_text_generated) == ("well", None, "Yes?")
    assert turn.interrupted


def test_two_utterances_before_an_answer_are_two_turns() -> None:
    turns = greeted()
    ask(turns, "s1", "i would like")
    first = saved(turns.speech_finished("s1", interrupted=True))
    ask(turns, "s2", "a table for two")
    turns.agent_said("s2", "host", Answer("For which day?"))
    second = saved(turns.speech_finished("s2"))
    assert [(turn.turn, turn.user_text) for turn in (first, second)] == [
        (1, "i would like"),
        (2, "a table for two"),
    ]


def test_discarded_preemptive_answer_is_not_recorded() -> None:
    turns = greeted()
    turns.speech_started("early", is_reply=True)
    turns.text_generated("early", "Thrown away.")
    assert turns.speech_finished("early", interrupted=True) == []
    ask(turns, "s1", "hello")
    turns.text_generated("s1", "Hi.")
    turns.agent_said("s1", "host", Answer("Hi."))
    assert saved(turns.speech_finished("s1")).assistant_text_generated == "Hi."


def test_preemptive_answer_during_last_answer_belongs_to_next_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "hello")
    turns.speech_started("s2", parent="s1", is_reply=True)  # the context of a handoff can leak
    turns.agent_said("s1", "host", Answer("Hi", interrupted=True))
    assert saved(turns.speech_finished("s1", interrupted=True)).turn == 1
    turns.user_said("s2", "host", asked("wait"))
    assert saved(turns.speech_finished("s2")).user_text == "wait"


def test_unprompted_speech_is_a_turn_without_user_text() -> None:
    turns = greeted()
    turns.speech_started("s1")
    turns.agent_said("s1", "host", Answer("Are you still there?"))
    turn = saved(turns.speech_finished("s1"))
    assert (turn.turn, turn.user_text, turn.assistant_text) == (1, None, "Are you still there?")


def test_unprompted_speech_with_finished_parent_is_a_new_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "wake me")
    assert saved(turns.speech_finished("s1")).turn == 1
    turns.speech_started("s2", parent="s1")
    turns.agent_said("s2", "host", Answer("Wake up."))
    assert saved(turns.speech_finished("s2")).turn == 2


def test_false_interruption_is_not_recorded() -> None:
    turns = greeted()
    ask(turns, "s1", "hello")
    turns.agent_said("s1", "host", Answer("Hi there."))  # paused, resumed, played to its end
    assert not saved(turns.speech_finished("s1")).interrupted


def test_utterance_without_answer_is_saved_at_once() -> None:
    turns = greeted()
    turn = saved(turns.user_said(None, "host", asked("never mind")))
    assert (turn.user_text, turn.assistant_text) == ("never mind", None)


def test_close_saves_open_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "thank you good bye")
    turns.agent_said("s1", "host", Answer("Good"))
    assert saved(turns.close()).assistant_text == "Good"
    assert turns.close() == []
    assert turns.speech_finished("s1") == []


def test_agent_task_inside_tool_has_its_own_turns() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    assert saved(ask(turns, "s2", "for two")).user_text == "book a table"
    turns.agent_said("s2", "task", Answer("For two."))
    assert saved(turns.speech_finished("s2")).turn == 2
    turns.agent_said("s1", "host", Answer("Booked."))
    turn = saved(turns.speech_finished("s1"))
    assert (turn.turn, turn.user_text, turn.assistant_text) == (3, None, "Booked.")


def test_speaking_times_of_both_sides_are_prefixed() -> None:
    turns = greeted()
    turns.speech_started("s1", is_reply=True)
    spoken = {"started_speaking_at": 1.0, "stopped_speaking_at": 2.0}
    turns.user_said("s1", "host", Utterance("hello", metrics=spoken))
    turns.agent_said(
        "s1", "host", Answer("Hi.", metrics={"started_speaking_at": 3.0, "stopped_speaking_at": 4.0})
    )
    turns.agent_said(
        "s1", "host", Answer("So.", metrics={"started_speaking_at": 5.0, "stopped_speaking_at": 6.0})
    )
    assert saved(turns.speech_finished("s1")).metrics == {
        "user_started_speaking_at": 1.0,
        "user_stopped_speaking_at": 2.0,
        "agent_started_speaking_at": 3.0,
        "agent_stopped_speaking_at": 6.0,
    }
