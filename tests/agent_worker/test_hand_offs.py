"""Hand-offs between the agents of a flow with a real model: by tool, by rule, back again, and too many."""

from tests.agent_worker.told_model import conversation

from antiphon.agent_worker.hand_off import TOO_MANY

TREE = """
limits: {hand_offs: 3}
variables: {metadata.caller: {default: a guest}}
tools:
  book_table:
    python: "antiphon.agent_worker.tools.booking:book_table"
    outputs: [reference]
agents:
  greeter:
    instructions: Find out what the caller wants.
    greeting: Hello.
    tools: [book_table]
    hand_offs:
      sales: {when: "the caller, {metadata.caller}, wants to {{buy}}", say: "I will get sales."}
      support: {context: cut}
    script:
      rules:
        - {hear: sales, say: Of course., hand_off: sales}
  sales:
    instructions: "Sell {product} to the caller, whose table is {reference}."
    greeting: Sales here.
    hand_offs: [greeter]
  support:
    instructions: "Help with the {product}."
    hand_offs: [greeter]
script:
  slots: {product: {boat: boat, car: car}}
  phrases:
    sales: "i want to buy a {product}"
  rules: []
"""
BOOKING = '{"party_size": 2, "day": "sunday", "time": "19:00"}'


async def test_the_model_hands_over_and_back_with_its_reason() -> None:
    async with conversation(TREE) as talk:
        assert await talk.say('hand_off_to_sales({"reason": "wants a boat"})') == [
            '-> hand_off_to_sales {"reason": "wants a boat"}',
            "<- hand_off_to_sales ",
            "I will get sales.",
            "greeter => sales",
            "Sales here.",
        ]
        back = await talk.say("hand_off_to_greeter({})")
        assert back[-2:] == ["sales => greeter", "Hello."]
        await talk.say("thanks")
        assert talk.model.tools[-1] >= {"book_table", "hand_off_to_support", "end_call"}
        assert talk.record.hand_offs == ["tool: wants a boat", "tool"]


async def test_a_rule_hands_over_and_its_model_knows_slots_and_results() -> None:
    async with conversation(TREE) as talk:
        await talk.say(f"book_table({BOOKING})")
        assert (await talk.say("I want to buy a boat!"))[0] == "Of course."
        assert "I will get sales." not in talk.shown
        assert talk.record.hand_offs == ["rule: sales"]
        assert await talk.say("how much is it") == ["You said: how much is it"]
        assert talk.model.instructions.startswith("Sell boat to the caller, whose table is T")
        assert talk.model.heard == [f"book_table({BOOKING})", "I want to buy a boat!", "how much is it"]


async def test_the_model_reads_when_to_hand_over_without_braces() -> None:
    async with conversation(TREE) as talk:
        await talk.say("hello")
        assert talk.model.described["hand_off_to_sales"] == (
            "Hand the caller over to sales: the caller, a guest, wants to {buy}"
        )
        assert talk.model.described["hand_off_to_support"] == (
            "Hand the caller over to support: Help with the (unknown)."
        )
        await talk.say("I want to buy a boat")
        await talk.say("hand_off_to_greeter({})")
        await talk.say("hello")
        assert talk.model.described["hand_off_to_support"].endswith("support: Help with the boat.")


async def test_an_agent_with_a_cut_context_knows_only_its_instructions() -> None:
    async with conversation(TREE) as talk:
        await talk.say("I want to buy a car")
        await talk.say("hand_off_to_greeter({})")
        answers = await talk.say("hand_off_to_support({})")
        assert answers[2] == "greeter => support"
        assert talk.model.instructions == "Help with the car."
        assert talk.model.heard == []
        await talk.say("hello")
        assert talk.model.heard == ["hello"]


async def test_a_value_that_nobody_gave_is_unknown() -> None:
    async with conversation(TREE) as talk:
        await talk.say("hand_off_to_sales({})")
        await talk.say("hello")
        assert talk.model.instructions == "Sell (unknown) to the caller, whose table is (unknown)."


async def test_a_loop_of_hand_offs_is_stopped_and_the_agent_in_charge_goes_on() -> None:
    async with conversation(TREE) as talk:
        for number in range(3):
            await talk.say("hand_off_to_greeter({})" if number % 2 else "hand_off_to_sales({})")
        await talk.say("hand_off_to_greeter({})")
        assert talk.session.current_agent.id == "sales"
        assert talk.shown[-1].startswith("Done: sales did not hand over to greeter: the call has had 3")
        (error,) = talk.record.errors
        assert (error.source, error.kind, error.recoverable) == ("flow", TOO_MANY, True)
        assert "limits.hand_offs" in error.message
        assert error.message.endswith("sales goes on")
        assert await talk.say("hello") == ["You said: hello"]


async def test_models_are_not_sent_the_marks_of_hand_offs() -> None:
    async with conversation(TREE) as talk:
        await talk.say("I want to buy a boat")
        await talk.say("hello")
        messages, _ = talk.model.contexts[-1].to_provider_format("openai")
        assert {message["role"] for message in messages} <= {"system", "user", "assistant"}
        assert not any("greeter" in str(message.get("content")) for message in messages)


async def test_an_answer_that_hands_over_to_two_agents_hands_over_to_the_first() -> None:
    async with conversation(TREE) as talk:
        said = await talk.say('hand_off_to_sales({"reason": "a boat"}) & hand_off_to_support({})')
        assert said[-2:] == ["greeter => sales", "Sales here."]
        assert (
            "<- hand_off_to_support not handed over to support: sales takes over, by the same answer" in said
        )
        assert talk.record.hand_offs == ["tool: a boat"]
        assert talk.session.current_agent.id == "sales"
        assert (await talk.say("hand_off_to_greeter({})"))[-1] == "Hello."
