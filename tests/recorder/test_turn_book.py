"""The order of facts in each test is the order in which LiveKit emits them."""

from antiphon.contracts.events.turn import TurnSaved
from antiphon.recorder.turn_book import Answer, Finished, Greeting, TurnBook, Utterance


def asked(text: str) -> Utterance:
    return Utterance(text, language="en", confidence=0.9, metrics={"transcription_delay": 0.1})


def saved(finished: list[Finished]) -> TurnSaved:
    (turn,) = finished
    assert isinstance(turn, TurnSaved)
    return turn


def greeted() -> TurnBook:
    book = TurnBook()
    book.speech_began("s0")
    book.generated("s0", "Hello.")
    assert book.agent_said("s0", "host", Answer("Hello.")) == []
    assert book.speech_ended("s0") == [Greeting("Hello.")]
    return book


def ask(book: TurnBook, speech: str, text: str) -> list[Finished]:
    book.speech_began(speech, reply=True)
    return book.user_said(speech, "host", asked(text))


def test_a_plain_turn_is_saved_when_its_speech_ends_and_not_before() -> None:
    book = greeted()
    assert ask(book, "s1", "hello") == []
    book.generated("s1", "Hi ")
    book.generated("s1", "there.")
    assert book.agent_said("s1", "host", Answer("Hi there.", metrics={"e2e_latency": 0.5})) == []

    turn = saved(book.speech_ended("s1"))

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


def test_the_greeting_is_no_turn_even_when_it_is_interrupted() -> None:
    book = TurnBook()
    book.speech_began("s0")
    book.generated("s0", "Hello. Who is speaking?")
    book.agent_said("s0", "host", Answer("Hello.", interrupted=True))
    assert book.speech_ended("s0", interrupted=True) == [Greeting("Hello. Who is speaking?")]
    ask(book, "s1", "me")
    assert saved(book.speech_ended("s1")).turn == 1


def test_a_greeting_that_still_sounds_is_told_before_the_first_turn() -> None:
    book = TurnBook()
    book.speech_began("s0")
    book.agent_said("s0", "host", Answer("Hel", interrupted=True))
    assert ask(book, "s1", "stop") == [Greeting("Hel")]


def test_a_tool_turn_holds_the_answers_before_and_after_the_tool() -> None:
    book = greeted()
    ask(book, "s1", "book a table")
    book.agent_said("s1", "host", Answer("One moment.", metrics={"e2e_latency": 0.4}))
    book.tool_called("call_1")
    book.tool_called("call_1")
    book.agent_said("s1", "host", Answer("Done.", metrics={"e2e_latency": 9.0}))

    turn = saved(book.speech_ended("s1"))

    assert turn.assistant_text == "One moment. Done."
    assert turn.tool_call_ids == ["call_1"]
    assert turn.metrics["e2e_latency"] == 0.4


def test_what_a_tool_says_by_itself_belongs_to_the_turn() -> None:
    book = greeted()
    ask(book, "s1", "book a table")
    book.speech_began("s2", within="s1")
    book.agent_said("s2", "host", Answer("Looking."))
    assert book.speech_ended("s2") == []
    book.agent_said("s1", "host", Answer("Done."))
    assert saved(book.speech_ended("s1")).assistant_text == "Looking. Done."


def test_a_hand_off_turn_ends_with_the_next_agents_greeting() -> None:
    book = greeted()
    ask(book, "s1", "the manager please")
    book.agent_said("s1", "host", Answer("One moment."))
    book.hand_off_began()
    assert book.speech_ended("s1") == []
    book.speech_began("s2", within="s1")  # on_enter runs in the course of the speech that handed over
    book.agent_said("s2", "manager", Answer("This is the manager."))
    assert book.speech_ended("s2") == []

    turn = saved(book.hand_off_ended())

    assert turn.assistant_text == "One moment. This is the manager."
    assert turn.agent_id == "host"


def test_a_hand_off_turn_ends_when_the_next_agent_says_nothing() -> None:
    book = greeted()
    ask(book, "s1", "the manager please")
    book.hand_off_began()
    assert book.speech_ended("s1") == []
    turn = saved(book.hand_off_ended())
    assert turn.assistant_text is None


def test_a_hand_off_turn_waits_for_a_speech_that_outlasts_on_enter() -> None:
    book = greeted()
    ask(book, "s1", "the manager please")
    book.hand_off_began()
    book.speech_ended("s1")
    book.speech_began("s2", within="s1")
    assert book.hand_off_ended() == []
    book.agent_said("s2", "manager", Answer("This is the manager."))
    assert saved(book.speech_ended("s2")).assistant_text == "This is the manager."


def test_an_interrupted_turn_tells_what_was_heard_and_what_was_meant() -> None:
    book = greeted()
    ask(book, "s1", "tell me everything")
    book.generated("s1", "There is a long story to tell.")
    book.agent_said("s1", "host", Answer("There is a long", interrupted=True))

    turn = saved(book.speech_ended("s1", interrupted=True))

    assert turn.interrupted
    assert turn.assistant_text == "There is a long"
    assert turn.assistant_text_generated == "There is a long story to tell."


def test_an_answer_that_was_never_heard_is_still_a_turn() -> None:
    book = greeted()
    ask(book, "s1", "well")
    book.generated("s1", "Yes?")
    turn = saved(book.speech_ended("s1", interrupted=True))
    assert (turn.user_text, turn.assistant_text, turn.assistant_text_generated) == ("well", None, "Yes?")
    assert turn.interrupted


def test_a_user_who_speaks_twice_before_an_answer_makes_two_turns() -> None:
    book = greeted()
    ask(book, "s1", "i would like")
    first = saved(book.speech_ended("s1", interrupted=True))
    ask(book, "s2", "a table for two")
    book.agent_said("s2", "host", Answer("For which day?"))
    second = saved(book.speech_ended("s2"))
    assert [(turn.turn, turn.user_text) for turn in (first, second)] == [
        (1, "i would like"),
        (2, "a table for two"),
    ]


def test_an_early_answer_that_was_thrown_away_leaves_no_trace() -> None:
    book = greeted()
    book.speech_began("early", reply=True)
    book.generated("early", "Thrown away.")
    assert book.speech_ended("early", interrupted=True) == []
    ask(book, "s1", "hello")
    book.generated("s1", "Hi.")
    book.agent_said("s1", "host", Answer("Hi."))
    assert saved(book.speech_ended("s1")).assistant_text_generated == "Hi."


def test_an_early_answer_that_begins_while_the_last_still_sounds_belongs_to_its_own_turn() -> None:
    book = greeted()
    ask(book, "s1", "hello")
    book.speech_began("s2", within="s1", reply=True)  # the context of a hand-off can leak into later replies
    book.agent_said("s1", "host", Answer("Hi", interrupted=True))
    assert saved(book.speech_ended("s1", interrupted=True)).turn == 1
    book.user_said("s2", "host", asked("wait"))
    assert saved(book.speech_ended("s2")).user_text == "wait"


def test_words_said_unasked_are_a_turn_without_a_users_text() -> None:
    book = greeted()
    book.speech_began("s1")
    book.agent_said("s1", "host", Answer("Are you still there?"))
    turn = saved(book.speech_ended("s1"))
    assert (turn.turn, turn.user_text, turn.assistant_text) == (1, None, "Are you still there?")


def test_words_said_unasked_in_the_course_of_an_old_turn_are_a_turn_of_their_own() -> None:
    book = greeted()
    ask(book, "s1", "wake me")
    assert saved(book.speech_ended("s1")).turn == 1
    book.speech_began("s2", within="s1")
    book.agent_said("s2", "host", Answer("Wake up."))
    assert saved(book.speech_ended("s2")).turn == 2


def test_a_false_interruption_changes_nothing() -> None:
    book = greeted()
    ask(book, "s1", "hello")
    book.agent_said("s1", "host", Answer("Hi there."))  # paused, resumed, heard to its end
    assert not saved(book.speech_ended("s1")).interrupted


def test_an_utterance_that_gets_no_answer_is_saved_at_once() -> None:
    book = greeted()
    turn = saved(book.user_said(None, "host", asked("never mind")))
    assert (turn.user_text, turn.assistant_text) == ("never mind", None)


def test_a_turn_that_is_open_at_the_end_is_saved() -> None:
    book = greeted()
    ask(book, "s1", "thank you good bye")
    book.agent_said("s1", "host", Answer("Good"))
    assert saved(book.close()).assistant_text == "Good"
    assert book.close() == []
    assert book.speech_ended("s1") == []


def test_a_task_within_a_tool_has_its_own_turns_and_the_tools_answer_comes_after_them() -> None:
    book = greeted()
    ask(book, "s1", "book a table")
    assert saved(ask(book, "s2", "for two")).user_text == "book a table"
    book.agent_said("s2", "task", Answer("For two."))
    assert saved(book.speech_ended("s2")).turn == 2
    book.agent_said("s1", "host", Answer("Booked."))
    turn = saved(book.speech_ended("s1"))
    assert (turn.turn, turn.user_text, turn.assistant_text) == (3, None, "Booked.")


def test_the_times_of_speaking_of_both_sides_are_kept_apart() -> None:
    book = greeted()
    book.speech_began("s1", reply=True)
    spoken = {"started_speaking_at": 1.0, "stopped_speaking_at": 2.0}
    book.user_said("s1", "host", Utterance("hello", metrics=spoken))
    book.agent_said(
        "s1", "host", Answer("Hi.", metrics={"started_speaking_at": 3.0, "stopped_speaking_at": 4.0})
    )
    book.agent_said(
        "s1", "host", Answer("So.", metrics={"started_speaking_at": 5.0, "stopped_speaking_at": 6.0})
    )
    assert saved(book.speech_ended("s1")).metrics == {
        "user_started_speaking_at": 1.0,
        "user_stopped_speaking_at": 2.0,
        "agent_started_speaking_at": 3.0,
        "agent_stopped_speaking_at": 6.0,
    }
