"""One call on a LiveKit server with real tools, a process that dies, two voices, and a loop of hand-offs.

The model and the voices are OpenAI's and Deepgram's plugins against doubles of their protocols.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aiohttp import web
from tests.agent_worker.tools.test_http import serving
from tests.agent_worker.tools.test_mcp import SERVER, http_server
from tests.doubles.deepgram_nova import DeepgramNova
from tests.doubles.deepgram_tts import DeepgramTts
from tests.doubles.openai_answers import Answer, call, calls, say
from tests.doubles.openai_chat import OpenAIChat
from tests.doubles.server import KEY, serve

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.agent_worker.hand_off import TOO_MANY
from antiphon.cli.caller import Caller
from antiphon.cli.stack.ports import free_port
from antiphon.contracts.event import Event
from antiphon.contracts.events.agent import AgentError, AgentHandedOff, AgentReady
from antiphon.contracts.events.session import CloseReason, SessionClosed
from antiphon.contracts.events.tool import ToolCompleted, ToolStarted
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.registry import open_event

if TYPE_CHECKING:
    from tests.agent_worker.conftest import Sessions, Worker

StartWorker = Callable[..., "Worker"]
Kind = TypeVar("Kind", bound=Event)

ROOT = Path(__file__).parents[2]
SECONDS = 90.0
SECRET = "s3cr3t-k3y-of-the-shop"
HOST_VOICE, SALES_VOICE = "aura-2-thalia-en", "aura-2-zeus-en"
FLOW = """\
id: shop
name: Shop
description: A shop.
voice:
  vad: silero
  stt: {{use: deepgram, base_url: "{doubles}/v1/listen", api_key: "{{secret.DOUBLE}}"}}
  llm: {{use: openai, base_url: "{doubles}/v1", api_key: "{{secret.DOUBLE}}"}}
  tts: {{use: deepgram, model: {host}, base_url: "{doubles}/v1/speak", api_key: "{{secret.DOUBLE}}"}}
limits: {{hand_offs: 1}}
tools:
  stock: {{python: "tests.agent_worker.tools.functions:blocking"}}
  crash: {{python: "tests.agent_worker.tools.functions:crash"}}
  leave: {{python: "tests.agent_worker.tools.functions:leave"}}
  look_up:
    description: Look an order up.
    http:
      url: "{orders}/orders/{{number}}"
      headers: {{Authorization: "Bearer {{secret.KEY}}"}}
      private: true
    arguments: {{number: {{type: string}}}}
    personal: true
  crm:
    mcp: {{command: [{python}, {server}, stdio], tools: [order, die]}}
    timeout_seconds: 60
  erp:
    mcp: {{url: "http://127.0.0.1:{port}/mcp", private: true, tools: [greet]}}
    timeout_seconds: 60
agents:
  host:
    instructions: Answer.
    greeting: Welcome to the shop.
    tools: [stock, crash, leave, look_up, crm, erp]
    hand_offs: [sales]
  sales:
    instructions: Sell.
    greeting: Sales here.
    hand_offs: [host]
    voice:
      tts: {{use: deepgram, model: {sales}, base_url: "{doubles}/v1/speak", api_key: "{{secret.DOUBLE}}"}}
"""


@dataclass
class Shop:
    """The servers of the flow."""

    chat: OpenAIChat
    voice: DeepgramTts
    orders: list[web.Request]

    @property
    def offered(self) -> set[str]:
        """The tools that the model was last offered."""
        return {tool["function"]["name"] for tool in self.chat.last.body.get("tools", ())}

    def said_by(self, model: str) -> str:
        """Return all that a voice was given to say."""
        texts = (
            part["text"]
            for one in self.voice.received
            if one.query["model"] == [model]
            for part in one.messages
            if part["type"] == "Speak"
        )
        return " ".join("".join(texts).split())


@dataclass
class Talk:
    """A caller who writes, and what is on record."""

    sessions: "Sessions"
    session_id: str
    caller: Caller
    chat: OpenAIChat
    turns: int = 0

    async def ask(self, *answers: Answer) -> None:
        """Write something which the model answers so; wait until the turn is saved."""
        self.chat.answers.add(*answers)
        self.turns += 1
        await self.caller.room.local_participant.send_text("please", topic="lk.chat")
        async with asyncio.timeout(SECONDS):
            while len(await self.of(TurnSaved)) < self.turns:  # noqa: ASYNC110 - on the bus
                await asyncio.sleep(0.1)

    async def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of a type."""
        events = [open_event(event) for event in await self.sessions.events(self.session_id)]
        return [event for event in events if isinstance(event, kind)]

    async def completed(self) -> dict[str, ToolCompleted]:
        """Return the last call of each tool."""
        return {event.name: event for event in await self.of(ToolCompleted)}


@pytest.fixture
async def shop(
    live_sessions: "Sessions", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """The published flow, and the servers that it uses."""
    monkeypatch.setenv("ANTIPHON_SECRET_DOUBLE", KEY)
    monkeypatch.setenv("ANTIPHON_SECRET_KEY", SECRET)
    chat, nova, voice, port = OpenAIChat(), DeepgramNova(), DeepgramTts(), free_port()

    async def order(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path, "heard": request.headers["Authorization"]})

    with http_server(port):
        async with serve(chat, nova, voice) as doubles, serving(order) as (orders, requests):
            flows = tmp_path / "flows"
            flows.mkdir()
            where: dict[str, Any] = {"doubles": doubles, "orders": orders, "port": port}
            program = {"python": sys.executable, "server": str(SERVER)}
            (flows / "shop.yaml").write_text(
                FLOW.format(**where, **program, host=HOST_VOICE, sales=SALES_VOICE)
            )
            await publish_flows(live_sessions.bus, flows, tenant="default", now=lambda: datetime.now(UTC))
            yield Shop(chat, voice, requests)


async def test_a_call_with_tools_of_every_kind(
    live_sessions: "Sessions", start_worker: StartWorker, shop: Shop
) -> None:
    start_worker(PYTHONPATH=str(ROOT))
    session_id = await live_sessions.request(flow_id="shop")
    async with live_sessions.caller(session_id) as caller:
        await live_sessions.wait_for(session_id, AgentReady.TYPE)
        talk = Talk(live_sessions, session_id, caller, shop.chat)
        async with asyncio.timeout(SECONDS):
            while not {"order", "greet"} <= (shop.offered if shop.chat.received else set()):
                await talk.ask(say("One moment."))  # the servers are still starting
        await _call_every_tool(talk, shop)
        await _let_a_server_die(talk)
        await _hand_over_in_a_loop(talk, shop)
        shop.chat.answers.add(call("end_call"), say("Bye."))
        await caller.room.local_participant.send_text("bye", topic="lk.chat")
        await live_sessions.wait_for(session_id, SessionClosed.TYPE)

    [closed] = await talk.of(SessionClosed)
    assert closed.reason is CloseReason.AGENT_ENDED
    assert shop.chat.refusals == shop.voice.refusals == []


async def _call_every_tool(talk: Talk, shop: Shop) -> None:
    everything: dict[str, dict[str, Any]] = {
        "stock": {"number": 7},
        "look_up": {"number": "A17"},
        "order": {"number": 7},
        "greet": {"name": "Ann"},
        "crash": {},
        "leave": {},
    }
    await talk.ask(calls(*everything.items()), say("That is all."))
    started = {event.name: event for event in await talk.of(ToolStarted)}
    assert {name: json.loads(event.arguments) for name, event in started.items()} == everything
    done = await talk.completed()
    assert done.keys() == everything.keys()
    assert {name: event.call_id for name, event in done.items()} == {
        name: event.call_id for name, event in started.items()
    }
    assert all(event.duration_seconds is not None for event in done.values())
    status = {name: event.status for name, event in done.items()}
    assert status == dict.fromkeys(everything, "done") | {"crash": "error", "leave": "error"}
    assert {name: event.personal for name, event in done.items() if event.personal} == {"look_up": True}
    outputs = {name: event.output for name, event in done.items()}
    assert json.loads(outputs["stock"] or "") == {"number": 7, "thread": True}
    assert json.loads(outputs["look_up"] or "") == {"path": "/orders/A17", "heard": "Bearer ***"}
    assert json.loads(outputs["order"] or "") == {"number": 7, "state": "sent"}
    assert outputs["greet"] == "hello Ann"
    assert (outputs["crash"], outputs["leave"]) == ("crash failed: KeyError", "leave failed: SystemExit")
    assert [request.headers["Authorization"] for request in shop.orders] == [f"Bearer {SECRET}"]
    told = {
        message["tool_call_id"]: message["content"]
        for message in shop.chat.last.body["messages"]
        if message["role"] == "tool"
    }
    assert sorted(told.values()) == sorted(str(output) for output in outputs.values())


async def _let_a_server_die(talk: Talk) -> None:
    await talk.ask(call("die"), say("It is gone."))
    died = (await talk.completed())["die"]
    assert (died.status, died.output) == ("error", "crm cannot be reached now")
    async with asyncio.timeout(SECONDS):
        while True:
            await talk.ask(call("order", number=8), say("So it is."))
            if (again := (await talk.completed())["order"]).status == "done":
                break
            assert again.output == "crm cannot be reached now"
    assert json.loads(again.output or "") == {"number": 8, "state": "sent"}


async def _hand_over_in_a_loop(talk: Talk, shop: Shop) -> None:
    await talk.ask(call("hand_off_to_sales", reason="wants to buy"))
    assert "hand_off_to_host" not in shop.offered
    await talk.ask(call("hand_off_to_host"), say("I stay with you."))
    assert "hand_off_to_host" in shop.offered
    handed = [event for event in await talk.of(AgentHandedOff) if event.from_agent is not None]
    assert handed == [AgentHandedOff(from_agent="host", to_agent="sales", reason="tool: wants to buy")]
    [error] = await talk.of(AgentError)
    assert (error.source, error.kind, error.recoverable) == ("flow", TOO_MANY, True)
    assert "the call has had 1 hand-offs, its limit" in error.message
    refused = (await talk.completed())["hand_off_to_host"]
    assert refused.status == "error"

    host, sales = shop.said_by(HOST_VOICE), shop.said_by(SALES_VOICE)
    assert host.startswith("Welcome to the shop. ")
    assert "That is all. It is gone. So it is." in host
    assert sales == "Sales here. I stay with you."
