"""Flows that are published to a running stack: by HTTP, by the command line, and by a worker that differs."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
import pytest
from tests.journeys.json_api import Json, SessionApi

from antiphon.chassis.bus import Bus
from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack
from antiphon.contracts.flows import FlowRevision, revision_key

ANTIPHON = Path(sys.prefix) / "bin" / "antiphon"
YAML = {"Content-Type": "application/yaml"}
BOOKING = (Path(__file__).parents[2] / "flows" / "booking.yaml").read_text()
GREETING = "Good evening, this is the table desk. How can I help you?"
CHANGED = "Good morning, this is the table desk. How can I help you?"
ENDED_SECONDS = 60.0

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def antiphon(stack: EmbeddedStack) -> Run:
    where = stack.status().addresses
    assert where.api_key
    address = {"ANTIPHON_API_URL": where.api_url, "ANTIPHON_API_KEY": where.api_key, "NO_COLOR": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ANTIPHON, "flow", *arguments],
            env=os.environ | address | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def flow_id() -> str:
    """The id of a flow that no other journey uses."""
    return f"desk-{uuid4().hex[:8]}"


def source(flow_id: str) -> str:
    return BOOKING.replace("id: booking", f"id: {flow_id}", 1)


async def greeting_of(http: httpx.AsyncClient, created: Json) -> str:
    """Join a session, and return what its agent says first."""
    async with Caller(created["livekit_url"], created["token"]) as caller:
        ready = await caller.wait_until_ready(timeout_seconds=40)
    assert ready is not None
    async with asyncio.timeout(ENDED_SECONDS):
        while True:
            shown = (await http.get(f"/v1/sessions/{created['session_id']}")).json()
            if shown["greeting"] is not None:
                return str(shown["greeting"])
            await asyncio.sleep(0.05)


async def create(http: httpx.AsyncClient, flow_id: str) -> Json:
    answer = await http.post("/v1/sessions", json={"flow_id": flow_id, "user_id": "ada"})
    assert answer.status_code == 201, answer.text
    created: Json = answer.json()
    return created


async def test_a_published_revision_is_run_by_the_next_session_and_by_no_earlier_one(
    http: httpx.AsyncClient, flow_id: str
) -> None:
    first = await http.put(f"/v1/flows/{flow_id}", content=source(flow_id), headers=YAML, timeout=60)
    assert first.status_code == 201, first.text
    earlier = await create(http, flow_id)

    text = source(flow_id).replace(GREETING, CHANGED)
    second = await http.put(f"/v1/flows/{flow_id}", content=text, headers=YAML, timeout=60)
    later = await create(http, flow_id)  # at once: nobody waits for workers to look

    assert (second.status_code, second.json()["revision"]) == (201, 2)
    assert await greeting_of(http, later) == CHANGED
    assert await greeting_of(http, earlier) == GREETING
    revisions = [
        (await http.get(f"/v1/sessions/{created['session_id']}")).json()["flow_revision"]
        for created in (earlier, later)
    ]
    assert revisions == [1, 2]


async def test_a_session_whose_worker_cannot_load_its_revision_fails_and_says_why(
    http: httpx.AsyncClient, api: SessionApi, stack: EmbeddedStack, flow_id: str
) -> None:
    text = source(flow_id).replace("antiphon.agent_worker.tools.booking:", "not_installed_here.tools:")
    record = FlowRevision(
        flow_id=flow_id,
        revision=1,
        name="Table desk",
        description="",
        language="en",
        source=text,
        sha256="0" * 64,
        created_at=datetime.now(UTC),
    )
    bus = await Bus.connect(stack.status().addresses.nats_url)
    try:  # as a worker publishes it that has the module
        await (await bus.bucket("flows")).create(
            revision_key("default", flow_id, 1), msgspec.json.encode(record)
        )
    finally:
        await bus.close()
    async with asyncio.timeout(ENDED_SECONDS):
        while (await http.get(f"/v1/flows/{flow_id}")).status_code != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)

    created = await create(http, flow_id)
    events = [event async for event in api.follow(created["session_id"])]
    async with asyncio.timeout(ENDED_SECONDS):
        while (shown := await api.session(created["session_id"]))["ended_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    line = text[: text.index("not_installed_here")].count("\n") + 1
    assert events[-1]["type"] == "session.failed"
    assert (shown["status"], shown["reason"]) == ("failed", "flow_not_loaded")
    assert shown["detail"].startswith(
        f"{flow_id}@1:{line}: tools.book_table.python: the module 'not_installed_here.tools' cannot be"
    )
    listed = (await http.get("/v1/sessions", params={"reason": "flow_not_loaded"})).json()["sessions"]
    assert created["session_id"] in [one["session_id"] for one in listed]


def test_the_command_line_publishes_and_compares(antiphon: Run, flow_id: str, tmp_path: Path) -> None:
    file = tmp_path / "desk.yaml"
    file.write_text(source(flow_id))
    published = antiphon("publish", str(file), "--if-match", "0")
    assert (published.returncode, published.stdout) == (0, f"{flow_id}: revision 1\n"), published.stderr

    file.write_text(source(flow_id).replace(GREETING, CHANGED))
    unpublished = antiphon("diff", f"{flow_id}@1", str(file))
    assert "~ agents.host.greeting" in unpublished.stdout, unpublished.stderr
    assert f"+ {CHANGED}" in unpublished.stdout

    again = antiphon("publish", str(file), "--if-match", "1")
    assert again.stdout == f"{flow_id}: revision 2\n", again.stderr
    between = antiphon("diff", f"{flow_id}@1", f"{flow_id}@2")
    assert between.stdout == unpublished.stdout

    # another has published meanwhile
    file.write_text(source(flow_id) + "\n# mine\n")
    lost = antiphon("publish", str(file), "--if-match", "1")
    assert lost.returncode != 0
    assert "revision 2 is the newest" in lost.stderr

    file.write_text(source(flow_id).replace("hand_off: manager", "hand_off: manger", 1))
    wrong = antiphon("publish", str(file))
    assert wrong.returncode != 0
    assert "did you mean 'manager'" in wrong.stdout
    assert f"{file}:" in wrong.stdout
