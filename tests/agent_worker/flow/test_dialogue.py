"""Where a scripted conversation stands follows from what was said, in whatever order it was said."""

from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.dialogue import Dialogue, Said, Standing


def stand(flow: Flow, *words: str, failed: frozenset[str] = frozenset()) -> Standing:
    said = [Said(text, f"call_{number}") for number, text in enumerate(words)]
    return Dialogue(flow).stand(said, lambda call_id: call_id not in failed)


def test_nothing_said_stands_with_the_entry_agent(booking: Flow) -> None:
    assert stand(booking) == Standing("host")


def test_what_is_filled_in_is_kept_until_it_is_asked_about(booking: Flow) -> None:
    there = stand(booking, "tomorrow at seven", "a table for two")
    assert there == Standing("host", {"day": "tomorrow", "time": "seven", "party_size": "two"}, "confirm")


def test_the_last_word_counts(booking: Flow) -> None:
    there = stand(booking, "book a table for two", "tomorrow at seven", "for three people")
    assert there.slots["party_size"] == "three"


def test_a_cough_changes_nothing(booking: Flow) -> None:
    words = ("book a table for two", "tomorrow at seven")
    assert stand(booking, *words, "(unclear)") == stand(booking, *words)


def test_a_booking_that_failed_is_still_asked_about(booking: Flow) -> None:
    words = ("book a table for two", "tomorrow at seven", "yes please")
    assert stand(booking, *words, failed=frozenset({"call_2"})).asked == "confirm"
    assert stand(booking, *words).slots == {}


def test_no_thank_you_forgets_the_time_and_keeps_the_party(booking: Flow) -> None:
    there = stand(booking, "book a table for two", "tomorrow at seven", "no thank you")
    assert there == Standing("host", {"party_size": "two"}, "when")


def test_the_manager_takes_over_in_the_middle_of_a_booking(booking: Flow) -> None:
    there = stand(booking, "book a table for two", "may i speak to the manager", "tomorrow at seven")
    assert (there.agent, there.asked) == ("manager", "confirm")


def test_yes_please_confirms_only_what_was_asked(booking: Flow) -> None:
    dialogue = Dialogue(booking)
    full = {"party_size": "two", "day": "tomorrow", "time": "seven"}
    asked = dialogue.reply(Standing("host", full, "confirm"), "yes please")
    not_asked = dialogue.reply(Standing("host", full, None), "yes please")
    assert asked.rule is not None
    assert asked.rule.call == "book_table"
    assert not_asked.rule is not None
    assert not_asked.rule.call is None
