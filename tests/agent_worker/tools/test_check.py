"""What is checked of the tools of a flow when it is loaded: every mistake with its place."""

import sys
from typing import Any

import pytest
import yaml

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import InvalidFlow, load_flow
from antiphon.agent_worker.flow_check import check_source
from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.settings import load
from antiphon.contracts.flows import FlowCheckRequest


def source(tools: dict[str, Any], **agent: Any) -> str:
    """Return a flow with some tools."""
    offline = {"llm": "offline", "stt": "offline", "tts": "offline"}
    host = {"instructions": "Help.", "greeting": "Hello.", "tools": list(tools), **agent}
    flow = {
        "id": "f",
        "name": "F",
        "description": "A flow.",
        "voice": offline,
        "tools": tools,
        "agents": {"host": host},
        "script": {
            "fallback": "Sorry?",
            "phrases": {"hello": "hello there"},
            "rules": [{"hear": "hello", "say": "Hello."}],
        },
    }
    return yaml.safe_dump(flow)


def problems(tools: dict[str, Any], **agent: Any) -> list[str]:
    """Return the problems of a flow with some tools, as `place: reason`."""
    try:
        load_flow(source(tools, **agent), CATALOG)
    except InvalidFlow as invalid:
        return [f"{problem.place}: {problem.reason}" for problem in invalid.problems]
    return []


def http(url: str = "https://a.example/", **more: Any) -> dict[str, Any]:
    request = {key: more.pop(key) for key in ("headers", "body", "method", "private") if key in more}
    return {"http": {"url": url, **request}, "description": "Look up.", **more}


@pytest.mark.parametrize("off", ["0", "false", "Off"])
def test_commands_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")
    monkeypatch.delenv("ANTIPHON_AGENT_MCP_COMMANDS", raising=False)
    assert load(AgentSettings).mcp_commands is None
    assert problems({"a": mcp()}) == []

    monkeypatch.setenv("ANTIPHON_AGENT_MCP_COMMANDS", off)

    assert load(AgentSettings).mcp_commands is False
    (problem,) = problems({"a": mcp()})
    assert problem.startswith("tools.a.mcp: commands are switched off here (ANTIPHON_AGENT_MCP_COMMANDS)")
    assert problems({"a": {"mcp": {"url": "https://mcp.example/"}}}) == []


@pytest.mark.parametrize(("setting", "allowed"), [(None, False), ("", False), ("true", True), ("On", True)])
def test_commands_of_a_flow_over_http_must_be_allowed(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, allowed: bool
) -> None:
    monkeypatch.delenv("ANTIPHON_AGENT_MCP_COMMANDS", raising=False)
    if setting is not None:
        monkeypatch.setenv("ANTIPHON_AGENT_MCP_COMMANDS", setting)
    request = FlowCheckRequest(source=source({"a": mcp()}))

    places = [f"{one.place}: {one.reason}" for one in check_source(request).problems]

    assert problems({"a": mcp()}) == []  # of a file
    assert places == [] if allowed else len(places) == 1
    assert allowed or "has no commands, unless ANTIPHON_AGENT_MCP_COMMANDS=true for the agent" in places[0]


def mcp(**server: Any) -> dict[str, Any]:
    return {"mcp": {"command": [sys.executable, "x.py"], **server}}


@pytest.mark.parametrize(
    ("tools", "place", "why"),
    [
        (
            {"a": {"python": "no.such.module:x"}},
            "tools.a.python",
            "set ANTIPHON_AGENT_TOOLS_PATH to its folder",
        ),
        ({"a": {"python": "json:dumps"}}, "tools.a.python", "decorate it with @function_tool"),
        ({"a": {"python": "json:dumbs"}}, "tools.a.python", "dumps"),
        (
            {"a": {"python": "tests.agent_worker.tools.functions:text", "arguments": {"x": {}}}},
            "tools.a.arguments",
            "itself says",
        ),
        ({"a": http("ftp://a.example/")}, "tools.a.http", "must begin with https:// or http://"),
        ({"a": http("https://{metadata.host}/")}, "tools.a.http", "can have no variables"),
        ({"a": http("https://u:p@a.example/")}, "tools.a.http", "write credentials as a header"),
        ({"a": http("http://localhost:8000/")}, "tools.a.http", "write `private: true`"),
        ({"a": http("http://2130706433/")}, "tools.a.http", "write `private: true`"),
        ({"a": http("http://[::ffff:127.0.0.1]/")}, "tools.a.http", "write `private: true`"),
        ({"a": http("https://a.example/{x}")}, "tools.a.http.url", "{x} has no value here"),
        (
            {"a": http("https://a.example/{secret.NOT_SET_ANYWHERE}")},
            "tools.a.http.url",
            "set ANTIPHON_SECRET_NOT_SET_ANYWHERE for the agent worker",
        ),
        ({"a": http(headers={"X": "{secret.lower}"})}, "tools.a.http.headers.X", "has capitals"),
        ({"a": http(headers={"X y": "1"})}, "tools.a.http.headers.X y", "is not the name of a header"),
        ({"a": http(headers={"Host": "b"})}, "tools.a.http.headers.Host", "that the client writes itself"),
        ({"a": http(headers={"X": "1", "x": "2"})}, "tools.a.http.headers.x", "is written twice"),
        ({"a": http(body={"x": "1"})}, "tools.a.http.body", "a GET request has no body"),
        (
            {"a": http(arguments={"x": {"type": "txt"}})},
            "tools.a.http",
            "the argument 'x' is not a valid JSON Schema",
        ),
        (
            {"a": http(arguments={"x": {"$ref": "https://a.example/schema"}})},
            "tools.a.http",
            "is outside of the schema",
        ),
        ({"a": http(arguments={"x.y": {}})}, "tools.a.arguments.x.y", "has letters, digits and _"),
        (
            {"a": http(filler={"say": "Wait, {secret.X}."})},
            "tools.a.filler.say",
            "the caller would hear a secret",
        ),
        (
            {"a": http(filler={"say": "Wait.", "after_seconds": 20})},
            "tools.a.filler.after_seconds",
            "is never said: the tool ends after 10 s",
        ),
        (
            {"a": mcp(command=["no-such-command-1"])},
            "tools.a.mcp",
            "the command 'no-such-command-1' was not found",
        ),
        ({"a": {"mcp": {"url": "http://127.0.0.1:1/mcp"}}}, "tools.a.mcp", "write `private: true`"),
        ({"a": mcp(headers={"X": "1"})}, "tools.a.mcp.headers", "a command has no headers"),
        (
            {"a": {"mcp": {"url": "https://a.example/mcp", "env": {"X": "1"}}}},
            "tools.a.mcp.env",
            "only a command",
        ),
        (
            {"a": mcp(tools=["x"]), "b": mcp(tools=["x"])},
            "tools.b.mcp.tools[0]",
            "also a tool of the server a",
        ),
        ({"a": mcp(tools=["x"]), "x": http()}, "tools.a.mcp.tools[0]", "also a tool of the flow"),
        ({"a": mcp(tools=["end_call"])}, "tools.a.mcp.tools[0]", "every flow has"),
    ],
)
def test_mistake_is_named_with_its_place(tools: dict[str, Any], place: str, why: str) -> None:
    found = problems(tools)
    assert any(problem.startswith(f"{place}: ") and why in problem for problem in found), found


def test_tools_without_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_SECRET_BASE", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("ANTIPHON_SECRET_KEY", "k")
    tools = {
        "a": http("{secret.BASE}/orders/{x}", private=True, arguments={"x": {"type": "string"}}),
        "b": http(
            headers={"Authorization": "Bearer {secret.KEY}"}, method="POST", body={"now": "{now.date}"}
        ),
        "c": mcp(env={"KEY": "{secret.KEY}"}, tools=["someTool-1"]),
        "d": {"python": "antiphon.agent_worker.tools.booking:book_table", "outputs": ["reference"]},
    }
    assert problems(tools) == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("http://127.0.0.1:8000", "the address in {secret.BASE} is private; write `private: true`"),
        ("http://10.1.2.3/{a-b}", "the address in {secret.BASE} is private; write `private: true`"),
        ("http://10.1.2.3:port", "has an invalid host or port"),
        ("10.1.2.3", "must begin with https:// or http://"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "mcp"])
def test_address_behind_a_secret_is_checked_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, secret: str, why: str, kind: str
) -> None:
    monkeypatch.setenv("ANTIPHON_SECRET_BASE", secret)
    url = "{secret.BASE}/orders"
    (found,) = problems({"a": http(url) if kind == "http" else {"mcp": {"url": url}}})
    assert why in found
    assert not any(part in found for part in ("127.0.0.1", "10.1.2.3", "{a-b}"))


def test_rule_cannot_call_a_server() -> None:
    rule = {"hear": "hello", "call": "a", "say": "Hello."}
    found = problems({"a": mcp()}, script={"rules": [rule]})
    assert any("'a' is an MCP server; only a model can call its tools" in problem for problem in found), found
