"""MCP servers of flows: real ones, made with the official SDK, that die and come back."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.agent_worker.tools.conftest import Open, Talk

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import load_flow
from antiphon.agent_worker.tools.mcp_process import MAX_MESSAGE_BYTES
from antiphon.cli.stack.ports import free_port

ROOT = Path(__file__).parents[3]
SERVER = Path(__file__).with_name("mcp_server.py")
KEY = "s3cr3t-k3y-of-the-test"
ENVIRONMENT = {"ANTIPHON_SECRET_KEY": KEY}


def stdio(mode: str = "stdio", *, pids: Path | None = None, **more: Any) -> dict[str, Any]:
    server = {key: more.pop(key) for key in ("tools",) if key in more}
    env = {"KEY": "{secret.KEY}"} | ({"PIDS": str(pids)} if pids is not None else {})
    return {"mcp": {"command": [sys.executable, str(SERVER), mode], "env": env, **server}, **more}


@contextmanager
def http_server(port: int, mode: str = "http") -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(SERVER), mode, str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/mcp", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(10)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - a server has no event
            await asyncio.sleep(0.05)


def connected(spoken: Talk, server: str = "crm") -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return spoken.tools._servers[server].connected

    return check


async def test_tools_of_a_process(talk: Open) -> None:
    async with talk({"crm": stdio(personal=True)}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        assert json.loads((await spoken.call("order", number=7)).output) == {"number": 7, "state": "sent"}
        assert (await spoken.call("greet", name="Ann")).output == "hello Ann"
        assert [(event.name, event.status, event.personal) for event in spoken.completed] == [
            ("order", "done", True),
            ("greet", "done", True),
        ]
        assert all(event.duration_seconds is not None for event in spoken.completed)


async def test_errors_of_a_server_are_told_without_secrets(talk: Open, logged: Callable[[], str]) -> None:
    tools = {"crm": stdio(timeout_seconds=30)}
    async with talk(tools, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        refused = await spoken.call("refuse")
        assert (refused.is_error, "no access with ***" in refused.output) == (True, True)
        wrong = await spoken.call("order", number="many")
        assert wrong.is_error
        large = await spoken.call("huge", size=70_000)
        assert large.output == "the result has 70000 bytes, and the limit is 65536"
        assert [event.status for event in spoken.completed] == ["error"] * 3
        assert KEY not in repr(spoken.events)
    assert KEY not in logged()


async def test_arguments_that_json_cannot_carry_do_not_end_the_connection(talk: Open, tmp_path: Path) -> None:
    async with talk({"crm": stdio(pids=tmp_path / "pids")}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        refused = await spoken.call("greet", name="half \ud83d")
        assert (
            refused.output == "invalid arguments: name: the text has a lone surrogate, which is no character"
        )
        assert (await spoken.call("order", number=10**400)).is_error
        assert (await spoken.call("greet", name="Ann")).output == "hello Ann"
    assert len((tmp_path / "pids").read_text().split()) == 1


async def test_call_of_a_server_has_a_time_limit(talk: Open) -> None:
    async with talk({"crm": stdio(timeout_seconds=0.5)}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        assert (await spoken.call("slow", seconds=60)).output == "slow did not answer within 0.5 s"
        assert spoken.completed[0].status == "error"
        assert spoken.tools._servers["crm"].connected


async def test_only_the_tools_that_the_flow_names(talk: Open) -> None:
    async with talk({"crm": stdio(tools=["greet"])}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        unknown = await spoken.call("order", number=7)
        assert unknown.output == "Unknown function: order - available tools: greet, end_call"


async def test_names_that_two_servers_have_are_an_error_and_the_first_keeps_them(
    talk: Open, logged: Callable[[], str]
) -> None:
    tools = {
        "crm": stdio(tools=["greet", "order"]),
        "erp": stdio(),
        "slow": {"python": "tests.agent_worker.tools.functions:slow"},
    }
    async with talk(tools, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken, "crm"))
        await until(connected(spoken, "erp"))
        assert (await spoken.call("greet", name="Ann")).output == "hello Ann"
        assert (await spoken.call("slow", seconds=0)).output == "done"
        text = logged()
        assert "tool.mcp_name_taken" in text
        assert "'tool': 'greet', 'server': 'erp', 'taken_by': 'crm'" in text
        assert "'tool': 'slow', 'server': 'erp', 'taken_by': 'the flow'" in text


async def test_process_that_dies_is_started_again(talk: Open, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with talk({"crm": stdio(pids=pids, timeout_seconds=60)}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        died = await spoken.call("die")
        assert (died.is_error, died.output) == (True, "crm cannot be reached now")
        await until(connected(spoken))
        assert not (await spoken.call("order", number=7)).is_error
        os.kill(int(pids.read_text().split()[-1]), signal.SIGKILL)  # between two calls
        started = len(pids.read_text().split())

        async def again() -> bool:
            return len(pids.read_text().split()) > started and spoken.tools._servers["crm"].connected

        await until(again)
        assert not (await spoken.call("order", number=7)).is_error
        assert [event.status for event in spoken.completed] == ["error", "done", "done"]
    for pid in pids.read_text().split():
        assert not _runs(int(pid))


async def test_message_without_end_is_an_error_and_the_server_is_started_again(
    talk: Open, logged: Callable[[], str], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    async with talk({"crm": stdio(pids=pids, timeout_seconds=60)}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        most = await spoken.call("huge", size=MAX_MESSAGE_BYTES - 1000)
        assert most.output.endswith("and the limit is 65536")
        large = await spoken.call("huge", size=64 * MAX_MESSAGE_BYTES)
        assert large.is_error
        assert (
            large.output == f"crm sent a message of more than {MAX_MESSAGE_BYTES} bytes, which is the limit"
        )
        await until(connected(spoken))
        assert f"the server sent a message of more than {MAX_MESSAGE_BYTES} bytes" in logged()
        assert (await spoken.call("greet", name="Ann")).output == "hello Ann"
    assert len(pids.read_text().split()) == 2
    for pid in pids.read_text().split():
        assert not _runs(int(pid))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (
            "http",
            "crm refused the call: SSE stream failed: Server-sent event exceeded the 1048576 byte limit.",
        ),
        ("json", "crm cannot be reached now"),
    ],
)
async def test_large_message_over_http_is_an_error_and_the_next_call_works(
    talk: Open, logged: Callable[[], str], mode: str, reason: str
) -> None:
    port = free_port()
    tools = {"crm": {"mcp": {"url": f"http://127.0.0.1:{port}/mcp", "private": True}, "timeout_seconds": 60}}
    with http_server(port, mode):
        async with talk(tools) as spoken:
            await until(connected(spoken))
            large = await spoken.call("huge", size=16 * MAX_MESSAGE_BYTES)
            assert large.output == reason

            async def answers() -> bool:
                return not (await spoken.call("order", number=7)).is_error

            await until(answers)
            lost = f"MessageTooLarge('sent a message of more than {MAX_MESSAGE_BYTES} bytes"
            assert (lost in logged()) == (mode == "json")


async def test_line_without_end_is_not_kept(talk: Open, logged: Callable[[], str], tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with talk({"crm": stdio("endless", pids=pids)}, environment=ENVIRONMENT):

        async def said() -> bool:
            return f"the server sent a message of more than {MAX_MESSAGE_BYTES} bytes" in logged()

        await until(said)
    for pid in pids.read_text().split():
        assert not _runs(int(pid))


async def test_what_is_no_message_is_passed_over(talk: Open) -> None:
    async with talk({"crm": stdio("noisy")}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        assert (await spoken.call("greet", name="Ann")).output == "hello Ann"


async def test_python_of_a_command_is_the_one_of_the_worker(
    talk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    server = {"mcp": {"command": ["python", str(SERVER), "stdio"], "tools": ["program"]}}
    async with talk({"crm": server}) as spoken:
        await until(connected(spoken))
        assert (await spoken.call("program")).output == sys.prefix


async def test_calls_while_a_server_is_away_are_errors(talk: Open) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    tools = {"crm": {"mcp": {"url": url, "private": True}}}
    with http_server(port):
        opened = talk(tools)
        spoken = await opened.__aenter__()
        await until(connected(spoken))
        assert not (await spoken.call("order", number=7)).is_error
    try:
        assert (await spoken.call("order", number=7)).output == "crm cannot be reached now"
        assert (await spoken.call("order", number=7)).output == "crm cannot be reached now"
        with http_server(port):
            await until(connected(spoken))
            assert not (await spoken.call("order", number=7)).is_error
    finally:
        await opened.__aexit__(None, None, None)


async def test_server_over_http_that_was_started_anew_is_connected_again(talk: Open) -> None:
    port = free_port()
    tools = {"crm": {"mcp": {"url": f"http://127.0.0.1:{port}/mcp", "private": True}}}
    with http_server(port):
        opened = talk(tools)
        spoken = await opened.__aenter__()
        await until(connected(spoken))
    with http_server(port):  # it does not know the connection any more

        async def answers() -> bool:
            return not (await spoken.call("order", number=7)).is_error

        await until(answers)
        await opened.__aexit__(None, None, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "rebind.example"])
async def test_private_address_of_a_server_is_refused(
    talk: Open, logged: Callable[[], str], host: str
) -> None:
    """`{secret.BASE}` hides the host from the check of the flow."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    port = free_port()
    tools = {"crm": {"mcp": {"url": "{secret.BASE}/mcp"}}}
    with http_server(port):
        environment = {"ANTIPHON_SECRET_BASE": f"http://{host}:{port}"}
        async with talk(tools, environment=environment, resolve=resolve) as spoken:

            async def refused() -> bool:
                return "the host has no public address" in logged()

            await until(refused)
            assert not spoken.tools._servers["crm"].connected
            assert (await spoken.call("order", number=7)).is_error


async def test_server_that_cannot_start_holds_up_nothing(talk: Open, logged: Callable[[], str]) -> None:
    tools = {"crm": stdio("broken"), "slow": {"python": "tests.agent_worker.tools.functions:slow"}}
    began = time.monotonic()
    async with talk(tools, environment=ENVIRONMENT) as spoken:
        assert time.monotonic() - began < 30
        assert (await spoken.call("slow", seconds=0)).output == "done"

        async def said() -> bool:
            return "cannot start with ***" in logged()

        await until(said)
    assert KEY not in logged()


async def test_process_that_does_not_end_is_killed_with_the_session(talk: Open, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with talk({"crm": stdio("stubborn", pids=pids)}, environment=ENVIRONMENT) as spoken:
        await until(connected(spoken))
        (pid,) = map(int, pids.read_text().split())
        assert _runs(pid)
    assert not _runs(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal at the end of a parent")
def test_process_ends_with_a_job_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import asyncio, sys\n"
        "from collections import deque\n"
        "from antiphon.agent_worker.flow.definitions import McpServer\n"
        "from antiphon.agent_worker.tools.address import resolve\n"
        "from antiphon.agent_worker.tools.mcp_connection import McpConnection\n"
        "from antiphon.agent_worker.tools.mcp_streams import streams_of\n"
        "from antiphon.agent_worker.tools.secrets import Secrets\n"
        "async def main():\n"
        f"    command = [sys.executable, {str(SERVER)!r}, 'stubborn']\n"
        f"    server = McpServer(command=command, env={{'PIDS': {str(pids)!r}}})\n"
        "    streams = streams_of(server, Secrets({}), {}, resolve, deque())\n"
        "    connection = McpConnection('crm', streams, said=deque(), hide=str)\n"
        "    assert await connection.wait_listed(60)\n"
        "    print('connected', flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"connected\n"
    (pid,) = map(int, pids.read_text().split())
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 60
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


async def test_server_of_the_example_is_run_by_its_flow(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the flow names the program from here
    for name in ("OPENAI_API_KEY", "DEEPGRAM_API_KEY", "ANTIPHON_SECRET_ORDERS"):
        monkeypatch.setenv(name, KEY)
    flow = load_flow(ROOT / "examples" / "flows" / "support.yaml", CATALOG)
    async with talk({"customers": flow.tools["customers"]}) as spoken:
        await until(connected(spoken, "customers"))
        found = await spoken.call("find_customer", name="Ada")
        assert json.loads(found.output) == {"name": "Ada Lovelace", "plan": "team", "seats": 12}
        assert json.loads((await spoken.call("find_customer", name="Bob")).output) == {}
        unknown = await spoken.call("note", name="Ada", text="called")
        assert unknown.output.startswith("Unknown function: note - available tools: find_customer")
        assert [event.personal for event in spoken.completed] == [True, True, None]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
