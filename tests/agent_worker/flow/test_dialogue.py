"""The state of a scripted conversation is a fold over the caller's messages."""

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.dialogue import Dialogue, DialogueState, UserMessage


def state_after(flow: Flow, *texts: str, failed: frozenset[str] = frozenset()) -> DialogueState:
    messages = [UserMessage(text, f"call_{number}") for number, text in enumerate(texts)]
    return Dialogue(flow).state_after(messages, lambda call_id: call_id not in failed)


def test_conversation_starts_with_the_entry_agent(booking: Flow) -> None:
    assert state_after(booking) == DialogueState("host")


def test_slots_are_kept_across_messages(booking: Flow) -> None:
    state = state_after(booking, "tomorrow at seven", "a table for two")
    assert state == DialogueState(
        "host", {"day": "tomorrow", "time": "seven", "party_size": "two"}, "confirm"
    )


def test_last_value_of_a_slot_is_used(booking: Flow) -> None:
    state = state_after(booking, "book a table for two", "tomorrow at seven", "for three people")
    assert state.slots["party_size"] == "three"


def test_unclear_message_does_not_change_the_state(booking: Flow) -> None:
    words = ("book a table for two", "tomorrow at seven")
    assert state_after(booking, *words, "(unclear)") == state_after(booking, *words)


def test_question_stays_open_after_a_failed_booking(booking: Flow) -> None:
    words = ("book a table for two", "tomorrow at seven", "yes please")
    assert state_after(booking, *words, failed=frozenset({"call_2"})).asked == "confirm"
    assert state_after(booking, *words).slots == {}


def test_no_thank_you_clears_the_time_and_keeps_the_party(booking: Flow) -> None:
    state = state_after(booking, "book a table for two", "tomorrow at seven", "no thank you")
    assert state == DialogueState("host", {"party_size": "two"}, "when")


def test_hand_off_in_the_middle_of_a_booking(booking: Flow) -> None:
    state = state_after(booking, "book a table for two", "may i speak to the manager", "tomorrow at seven")
    assert (state.agent, state.asked) == ("manager", "confirm")


def test_yes_please_confirms_only_an_open_question(booking: Flow) -> None:
    dialogue = Dialogue(booking)
    full = {"party_size": "two", "day": "tomorrow", "time": "seven"}
    asked = dialogue.reply(DialogueState("host", full, "confirm"), "yes please")
    not_asked = dialogue.reply(DialogueState("host", full, None), "yes please")
    assert asked.rule is not None
    assert asked.rule.call == "book_table"
    assert not_asked.rule is not None
    assert not_asked.rule.call is None
