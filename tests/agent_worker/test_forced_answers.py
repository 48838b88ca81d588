"""Rules beside a real model: their answers are forced, and what only they call the model cannot."""

from tests.agent_worker.told_model import conversation

SHOP = """
tools:
  book_table: {python: "antiphon.agent_worker.tools.booking:book_table", outputs: [reference]}
  look_up: {python: "antiphon.agent_worker.tools.booking:book_table"}
agents:
  host:
    instructions: Answer questions.
    greeting: Hello.
    tools: [look_up]
  boss:
    instructions: Be the boss.
    greeting: I am the boss.
script:
  slots:
    party_size: {two: 2, four: 4}
    day: [today, sunday]
    time: {seven: "19:00"}
  phrases:
    book: "a table for {party_size} on {day} at {time}"
    yes: yes [please]
    boss: the boss please
    bye: good bye
  rules:
    - hear: book
      needs: [party_size, day, time]
      say: "Shall I book for {party_size} on {day}?"
      asks: confirm
    - hear: yes
      after: confirm
      needs: [party_size, day, time]
      call: book_table
      say: "Booked, {reference:spelled}. {day}!"
      on_failure: That did not work.
    - {hear: boss, say: One moment., hand_off: boss}
    - {hear: bye, say: Good bye., end: true}
"""


async def test_a_table_is_booked_only_once_the_caller_has_confirmed_it() -> None:
    async with conversation(SHOP) as talk:
        assert await talk.say("A table for TWO, on Sunday, at seven!") == ["Shall I book for two on sunday?"]
        call, result, answer = await talk.say("Yes, please.")
        assert call == '-> book_table {"party_size": 2, "day": "sunday", "time": "19:00"}'
        reference = result.split('"')[3]
        assert answer == f"Booked, {' '.join(reference)}. sunday!"
        assert talk.model.contexts == []  # it was not asked


async def test_the_model_answers_what_no_rule_applies_to() -> None:
    async with conversation(SHOP) as talk:
        assert await talk.say("what is on the menu") == ["You said: what is on the menu"]
        assert talk.model.tools == [{"look_up", "end_call"}]


async def test_an_answer_of_the_model_closes_the_question_of_a_rule() -> None:
    async with conversation(SHOP) as talk:
        await talk.say("a table for two on sunday at seven")
        await talk.say("is there a garden")
        assert await talk.say("yes") == ["You said: yes"]


async def test_rules_hand_over_and_end_the_call() -> None:
    async with conversation(SHOP) as talk:
        answers = await talk.say("the boss please")
        assert answers[0] == "One moment."
        assert answers[-2:] == ["host => boss", "I am the boss."]
        assert (await talk.say("good bye"))[:2] == ["Good bye.", "-> end_call {}"]


async def test_the_model_answers_after_a_hand_off_of_a_rule_was_refused() -> None:
    limited = (
        "limits: {hand_offs: 1}"
        + SHOP
        + """    - {hear: host, say: I will get the host., hand_off: host}
"""
    )
    async with conversation(
        limited.replace("    bye: good bye", "    bye: good bye\n    host: the host please")
    ) as talk:
        await talk.say("the boss please")
        answers = await talk.say("the host please")
        assert answers[0] == "I will get the host."
        assert answers[-1].startswith("Done: boss did not hand over to host")


async def test_a_result_without_the_value_of_a_text_does_not_end_the_call() -> None:
    without = SHOP.replace("outputs: [reference]", "outputs: [reference, garden]").replace(
        "{day}!", "{garden}!"
    )
    async with conversation(without) as talk:
        await talk.say("a table for two on sunday at seven")
        assert (await talk.say("yes"))[-1] == "That did not work."
        assert await talk.say("hello") == ["You said: hello"]
