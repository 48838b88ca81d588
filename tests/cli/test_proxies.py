"""With a proxy in the environment, the parts of a stack on this machine still reach each other directly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.raw_server import answering, raw_server
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.home import claim
from antiphon.cli.proxies import leave_proxy, reaching_loopback
from antiphon.cli.supervisor.plan import Plan
from antiphon.cli.supervisor.setup import credentials_of

NOT_FOUND = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
CONNECTING = """
import asyncio, sys, urllib.request, urllib.error
import aiohttp, httpx
from livekit import api, rtc
from livekit.agents import AgentServer

async def main(url):
    try:
        urllib.request.urlopen(url + "/urllib")
    except urllib.error.HTTPError:
        pass
    httpx.get(url + "/httpx")
    async with aiohttp.ClientSession(trust_env=True) as http:
        await http.get(url + "/aiohttp")
    worker = AgentServer(ws_url=url, api_key="k", api_secret="s" * 32)
    async with aiohttp.ClientSession(proxy=worker._http_proxy) as http:
        await http.get(url + "/worker")
    grants = api.VideoGrants(room_join=True, room="r")
    token = api.AccessToken("k", "s" * 32).with_identity("i").with_grants(grants).to_jwt()
    try:
        await rtc.Room().connect(url.replace("http", "ws"), token)
    except rtc.ConnectError:
        pass

asyncio.run(main(sys.argv[1]))
"""


def test_what_runs_in_the_stack_uses_no_proxy_for_this_machine() -> None:
    with raw_server(NOT_FOUND) as proxy, raw_server(NOT_FOUND) as server:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), proxy.url),
        }
        subprocess.run(
            [sys.executable, "-c", CONNECTING, server.url],
            env=reaching_loopback(environment, server.url.replace("http", "ws")),
            check=True,
            capture_output=True,
            timeout=60,
        )

    paths = {request.split()[1].partition(b"?")[0] for request in server.requests}
    assert {b"/urllib", b"/httpx", b"/aiohttp", b"/worker"} < paths
    assert any(path.startswith(b"/rtc") for path in paths)
    assert proxy.requests == []


def test_every_service_of_a_stack_is_started_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "internal.test")
    settings = isolated_settings(tmp_path / "home")
    claim(settings.home)
    plan = Plan(settings, credentials_of(settings), None)

    commands = [*(service.prepare() for service in plan.services()), plan.migrate(), plan.publish_flows()]

    assert len(commands) == 6
    for command in commands:
        assert command.environment["NO_PROXY"] == "internal.test,127.0.0.1,localhost,::1"
        assert command.environment["no_proxy"] == command.environment["NO_PROXY"]
        assert "HTTP_PROXY" not in command.environment


def test_what_the_environment_excepts_stays() -> None:
    given = {"NO_PROXY": "a.test, b.test", "no_proxy": "b.test,c.test", "HTTP_PROXY": "p", "X": "y"}

    changed = reaching_loopback(given, "wss://livekit.test")

    both = "a.test,b.test,c.test,127.0.0.1,localhost,::1"
    assert changed == {"NO_PROXY": both, "no_proxy": both, "HTTP_PROXY": "p", "X": "y"}
    assert reaching_loopback({"no_proxy": "*"}, "ws://x.test") == {"NO_PROXY": "*", "no_proxy": "*"}


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("ws://127.0.0.1:7880", False),
        ("http://localhost", False),
        ("wss://localhost", True),
        ("ws://x.test", True),
    ],
)
def test_only_a_livekit_on_this_machine_leaves_the_proxy(url: str, left: bool) -> None:
    environment = {"HTTP_PROXY": "p", "HTTPS_PROXY": "q"}

    leave_proxy(environment, url)

    assert environment == ({"HTTP_PROXY": "p", "HTTPS_PROXY": "q"} if left else {"https_proxy": "q"})
