"""The turn tracker, called in the order in which LiveKit emits events."""

from antiphon.contracts.events.turn import TurnSaved, TurnStarted
from antiphon.recorder.open_turn import Answer, Greeting, Utterance
from antiphon.recorder.turns import Fact, TurnTracker


def asked(text: str) -> Utterance:
    return Utterance(text, language="en", confidence=0.9, metrics={"transcription_delay": 0.1})


def saved(facts: list[Fact]) -> TurnSaved:
    (turn,) = facts
    assert isinstance(turn, TurnSaved)
    return turn


def started(facts: list[Fact]) -> TurnStarted:
    (turn,) = facts
    assert isinstance(turn, TurnStarted)
    return turn


def greeted() -> TurnTracker:
    turns = TurnTracker("AJ_1")
    turns.speech_created("s0")
    turns.text_generated("s0", "Hello.")
    assert turns.agent_said("s0", "host", Answer("Hello.")) == []
    assert turns.speech_finished("s0") == [Greeting("Hello.")]
    return turns


def ask(turns: TurnTracker, speech: str, text: str) -> list[Fact]:
    turns.speech_created(speech, awaits_message=True)
    return turns.user_said(speech, "host", asked(text))


def test_turn_is_saved_when_its_speech_ends() -> None:
    turns = greeted()
    assert ask(turns, "s1", "hello") == [
        TurnStarted(
            turn=1,
            epoch="AJ_1",
            agent_id="host",
            user_text="hello",
            input="voice",
            language="en",
            confidence=0.9,
        )
    ]
    turns.text_generated("s1", "Hi ")
    turns.text_generated("s1", "there.")
    assert turns.agent_said("s1", "host", Answer("Hi there.", metrics={"e2e_latency": 0.5})) == []

    turn = saved(turns.speech_finished("s1"))

    assert turn == TurnSaved(
        turn=1,
        epoch="AJ_1",
        agent_id="host",
        user_text="hello",
        assistant_text="Hi there.",
        assistant_text_generated="Hi there.",
        language="en",
        confidence=0.9,
        metrics={"transcription_delay": 0.1, "e2e_latency": 0.5},
    )


def test_interrupted_greeting_is_not_a_turn() -> None:
    turns = TurnTracker("AJ_1")
    turns.speech_created("s0")
    turns.text_generated("s0", "Hello. Who is speaking?")
    turns.agent_said("s0", "host", Answer("Hello.", interrupted=True))
    assert turns.speech_finished("s0", interrupted=True) == [Greeting("Hello. Who is speaking?")]
    ask(turns, "s1", "me")
    assert saved(turns.speech_finished("s1")).turn == 1


def test_greeting_ends_with_its_own_speech() -> None:
    turns = TurnTracker("AJ_1")
    turns.speech_created("s0")
    turns.speech_began("s0", "host")
    turns.text_generated("s0", "Hello, this is Bella.")
    assert started(ask(turns, "s1", "stop")).turn == 1
    assert turns.is_greeting
    turns.agent_said("s0", "host", Answer("Hello, this", interrupted=True))
    assert turns.speech_finished("s0", interrupted=True) == [Greeting("Hello, this is Bella.")]
    assert not turns.is_greeting


def test_tool_turn_has_answers_before_and_after_tool() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.agent_said("s1", "host", Answer("One moment.", metrics={"e2e_latency": 0.4}))
    turns.tool_called("s1", "host", "call_1")
    turns.tool_called("s1", "host", "call_1")
    turns.agent_said("s1", "host", Answer("Done.", metrics={"e2e_latency": 9.0}))

    turn = saved(turns.speech_finished("s1"))

    assert turn.assistant_text == "One moment. Done."
    assert turn.tool_call_ids == ["call_1"]
    assert turn.metrics["e2e_latency"] == 0.4


def test_speech_of_tool_belongs_to_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.speech_created("s2", parent="s1")
    turns.agent_said("s2", "host", Answer("Looking."))
    assert turns.speech_finished("s2") == []
    turns.agent_said("s1", "host", Answer("Done."))
    assert saved(turns.speech_finished("s1")).assistant_text == "Looking. Done."


def test_handoff_turn_ends_after_next_agents_greeting() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.agent_said("s1", "host", Answer("One moment."))
    turns.handoff_started("s1")
    assert turns.speech_finished("s1") == []
    turns.speech_created("s2", parent="s1")  # on_enter runs during the speech that handed over
    turns.agent_said("s2", "manager", Answer("This is the manager."))
    assert turns.speech_finished("s2") == []

    turn = saved(turns.handoff_finished("s1"))

    assert turn.assistant_text == "One moment. This is the manager."
    assert turn.agent_id == "manager"  # who was heard last


def test_handoff_turn_ends_when_next_agent_is_silent() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.handoff_started("s1")
    assert turns.speech_finished("s1") == []
    turn = saved(turns.handoff_finished("s1"))
    assert turn.assistant_text is None


def test_handoff_turn_waits_for_speech_that_outlasts_on_enter() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.handoff_started("s1")
    turns.speech_finished("s1")
    turns.speech_created("s2", parent="s1")
    assert turns.handoff_finished("s1") == []
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


def test_what_ends_a_speech_after_its_answer_interrupts_nothing() -> None:
    """A tool that deletes the room ends its own speech."""
    turns = greeted()
    ask(turns, "s1", "that is all")
    turns.text_generated("s1", "Good bye.")
    turns.agent_said("s1", "host", Answer("Good bye."))
    turns.tool_called("s1", "host", "call_1")
    turn = saved(turns.speech_finished("s1", interrupted=True))
    assert not turn.interrupted
    assert turn.assistant_text == "Good bye."


def test_a_turn_that_the_end_of_the_session_cuts_off_is_interrupted() -> None:
    turns = greeted()
    ask(turns, "s1", "hello")
    turns.text_generated("s1", "Hi there.")
    turns.text_heard("s1", "Hi")
    assert saved(turns.close()).interrupted


def test_a_tool_reply_that_is_cut_off_is_interrupted() -> None:
    turns = greeted()
    ask(turns, "s1", "book it")
    turns.text_generated("s1", "One moment.")
    turns.agent_said("s1", "host", Answer("One moment."))
    turns.tool_called("s1", "host", "call_1")
    turns.text_generated("s1", "It is booked.")
    assert saved(turns.speech_finished("s1", interrupted=True)).interrupted


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
    turns.speech_created("early", awaits_message=True)
    turns.text_generated("early", "Thrown away.")
    assert turns.speech_finished("early", interrupted=True, was_scheduled=False) == []
    ask(turns, "s1", "hello")
    turns.text_generated("s1", "Hi.")
    turns.agent_said("s1", "host", Answer("Hi."))
    assert saved(turns.speech_finished("s1")).assistant_text_generated == "Hi."


def test_preemptive_answer_during_last_answer_belongs_to_next_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "hello")
    turns.speech_created("s2", parent="s1", awaits_message=True)  # the context of a handoff can leak
    turns.agent_said("s1", "host", Answer("Hi", interrupted=True))
    assert saved(turns.speech_finished("s1", interrupted=True)).turn == 1
    turns.user_said("s2", "host", asked("wait"))
    assert saved(turns.speech_finished("s2")).user_text == "wait"


def test_unprompted_speech_is_a_turn_without_user_text() -> None:
    turns = greeted()
    turns.speech_created("s1")
    turns.agent_said("s1", "host", Answer("Are you still there?"))
    turn = saved(turns.speech_finished("s1"))
    assert (turn.turn, turn.user_text, turn.assistant_text) == (1, None, "Are you still there?")


def test_unprompted_speech_with_finished_parent_is_a_new_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "wake me")
    assert saved(turns.speech_finished("s1")).turn == 1
    turns.speech_created("s2", parent="s1")
    turns.agent_said("s2", "host", Answer("Wake up."))
    assert saved(turns.speech_finished("s2")).turn == 2


def test_false_interruption_is_not_recorded() -> None:
    turns = greeted()
    ask(turns, "s1", "hello")
    turns.agent_said("s1", "host", Answer("Hi there."))  # paused, resumed, played to its end
    assert not saved(turns.speech_finished("s1")).interrupted


def test_utterance_without_answer_is_saved_when_the_next_one_comes() -> None:
    turns = greeted()
    assert started(turns.user_said(None, "host", asked("never mind"))).turn == 1
    first, second = ask(turns, "s1", "hello")
    assert isinstance(first, TurnSaved)
    assert (first.turn, first.user_text, first.assistant_text) == (1, "never mind", None)
    assert isinstance(second, TurnStarted)
    assert second.turn == 2


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
    turns.tool_called("s1", "host", "call_1")
    turns.speech_created("s2", parent="s1")  # the task's on_enter
    turns.agent_said("s2", "task", Answer("For how many?"))
    assert turns.speech_finished("s2") == []
    assert started(ask(turns, "s3", "for two")).turn == 2
    turns.text_generated("s3", "For two.")
    turns.agent_said("s3", "task", Answer("For two."))
    assert saved(turns.speech_finished("s3")).assistant_text == "For two."
    turns.agent_said("s1", "host", Answer("Booked."))
    turn = saved(turns.speech_finished("s1"))
    assert (turn.turn, turn.user_text) == (1, "book a table")
    assert turn.assistant_text == "For how many? Booked."


def test_speaking_times_of_both_sides_are_prefixed() -> None:
    turns = greeted()
    turns.speech_created("s1", awaits_message=True)
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


def test_handoff_that_never_finishes_ends_with_the_next_utterance() -> None:
    turns = greeted()
    ask(turns, "s1", "the manager please")
    turns.handoff_started("s1")
    assert turns.speech_finished("s1") == []
    first, second = ask(turns, "s2", "hello")
    assert isinstance(first, TurnSaved)
    assert (first.turn, first.user_text) == (1, "the manager please")
    assert isinstance(second, TurnStarted)


def test_message_in_the_context_of_another_speech_is_a_turn_of_its_own() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    assert started(turns.user_said("s1", "task", asked("for two"))).turn == 2  # the task's context leaks
    assert saved(turns.speech_finished("s1")).user_text == "book a table"
    turns.speech_created("s2")
    turns.agent_said("s2", "task", Answer("For two."))
    assert saved(turns.speech_finished("s2")).user_text == "for two"


def test_reply_that_a_tool_requests_for_a_message_is_that_messages_turn() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.speech_created("s2", parent="s1")
    assert started(turns.user_said("s2", "host", asked("from the tool"))).turn == 2
    turns.agent_said("s2", "host", Answer("To the tool."))
    turns.agent_said("s1", "host", Answer("Booked."))
    assert saved(turns.speech_finished("s1")).assistant_text == "Booked."
    assert saved(turns.speech_finished("s2")).assistant_text == "To the tool."


def test_texts_are_in_the_order_in_which_they_were_generated() -> None:
    turns = greeted()
    ask(turns, "s1", "book a table")
    turns.text_generated("s1", "One moment.")
    turns.agent_said("s1", "host", Answer("One moment."))
    turns.speech_created("s2", parent="s1")
    turns.text_generated("s2", "Looking.")
    turns.agent_said("s2", "host", Answer("Looking."))
    turns.speech_finished("s2")
    turns.text_generated("s1", "Done.")
    turns.agent_said("s1", "host", Answer("Done."))
    turn = saved(turns.speech_finished("s1"))
    assert turn.assistant_text == turn.assistant_text_generated == "One moment. Looking. Done."
