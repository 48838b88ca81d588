"""Push to talk by RPC, and text by `lk.chat`, through the real servers."""

import json

import pytest
from livekit import rtc
from tests.journeys.json_api import SessionApi
from tests.journeys.turns.conftest import Publish
from tests.journeys.turns.conversation import conversation

from antiphon.agent_worker.chat_text import MAX_CHARACTERS
from antiphon.cli.caller import Caller


async def test_caller_says_when_their_turn_begins_and_ends(api: SessionApi, publish: Publish) -> None:
    async with conversation(api, await publish("manual")) as call:
        # nothing is heard before the turn
        await call.say("stop please", 1.0)
        assert json.loads(await call.ask("start_turn")) == {"open": True}
        assert json.loads(await call.ask("start_turn")) == {"open": True}  # as a client that asks again
        await call.say("a table for two")
        ended = json.loads(await call.ask("end_turn"))
        assert ended == {"open": False, "transcript": "a table for two"}
        [turn] = await call.turns(1)
        assert (turn["user_text"], turn["assistant_text"]) == ("a table for two", "For two.")

        # a turn that is cancelled, and one without a word, are not answered
        await call.ask("start_turn")
        await call.say("stop please", 1.0)
        assert json.loads(await call.ask("cancel_turn")) == {"open": False}
        await call.ask("start_turn")
        assert json.loads(await call.ask("end_turn")) == {"open": False, "transcript": ""}

        # a text is a turn too; after a turn without a word the agent does not go on
        await call.until_it_answers("tell me a story", by=call.type)
        await call.ask("start_turn")
        assert json.loads(await call.ask("end_turn")) == {"open": False, "transcript": ""}
        _, story = await call.turns(2)
        assert (story["user_text"], story["interrupted"]) == ("tell me a story", True)
        assert [turn["input"] for turn in call.of_type("turn.started")] == ["voice", "text"]


async def test_errors_say_what_to_do(api: SessionApi, publish: Publish) -> None:
    async with conversation(api, await publish("manual")) as call:
        with pytest.raises(rtc.RpcError, match="no turn is open; call start_turn first") as wrong:
            await call.ask("end_turn")
        assert wrong.value.code == 409

        observer = await api.client.sessions.token(
            call.session_id, identity="observer", can_publish_data=True
        )
        async with Caller(observer.livekit_url, observer.token) as other:
            with pytest.raises(
                rtc.RpcError, match="only the caller takes turns, and 'observer' is not"
            ) as no:
                await call.ask("start_turn", by=other)
            assert no.value.code == 403

        refused = await call.refusal_of("x" * (MAX_CHARACTERS + 1))
        assert refused == f"Your message has {MAX_CHARACTERS + 1} characters; {MAX_CHARACTERS} are allowed."
