"""Flows that were published while a worker runs: it runs them at once, or says why it cannot."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from livekit import api
from tests.agent_worker.conftest import Sessions, Worker

from antiphon.agent_worker.assignment import read_assignment
from antiphon.agent_worker.flow import InvalidFlow
from antiphon.chassis.bus import Bus, outgoing
from antiphon.chassis.deployment import deployment_of
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.envelope import seal
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import FailureReason, SessionFailed, SessionRequested
from antiphon.contracts.flows import (
    FLOW_CHECK,
    FlowCheckRequest,
    FlowRevision,
    decode_check_reply,
    draft_key,
    revision_key,
)
from antiphon.contracts.ids import named_session_id, requested_id
from antiphon.contracts.registry import open_event
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink

AT = datetime(2026, 1, 2, tzinfo=UTC)
FLOW = (Path(__file__).parents[2] / "flows" / "booking.yaml").read_text()
TOOL = "antiphon.agent_worker.tools.booking:book_table"


def record(source: str, revision: int, origin: Literal["files", "http"] = "files") -> bytes:
    return msgspec.json.encode(
        FlowRevision(
            flow_id="booking",
            revision=revision,
            name="Table desk",
            description="",
            language="en",
            source=source,
            sha256="0" * 64,
            created_at=AT,
            origin=origin,
        )
    )


async def failure(sessions: Sessions, session_id: str) -> str:
    """Wait for a session to fail as its flow cannot be loaded; return the detail."""
    ended = open_event(await sessions.wait_for(session_id, "session.failed"))
    assert isinstance(ended, SessionFailed)
    assert ended.reason is FailureReason.FLOW_NOT_LOADED
    return ended.detail or ""


async def test_a_resumed_session_keeps_its_revision(bus: Bus, nats_server: NatsServer) -> None:
    """Every job of a session reads its request again, and the revision that is named there."""
    link = BusLink(partial(Bus.connect, nats_server.url))
    flows = await bus.bucket("flows")
    await flows.create(revision_key("default", "booking", 1), record(FLOW, 1))
    identity = await requested(bus, "resumed", 1)
    changed = FLOW.replace("name: Table desk", "name: Front desk")

    names = [(await read_assignment(link, identity, 60)).bound.flow.name]
    await flows.create(revision_key("default", "booking", 2), record(changed, 2))
    names.append((await read_assignment(link, identity, 60)).bound.flow.name)
    await link.close()

    assert changed != FLOW
    assert names == ["Table desk", "Table desk"]


async def test_programs_of_a_flow_are_started_if_it_came_from_a_file(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTIPHON_AGENT_MCP_COMMANDS", raising=False)
    source = FLOW.replace("\ntools:\n", "\ntools:\n  crm: {mcp: {command: [python, crm.py]}}\n")
    assert source != FLOW
    link = BusLink(partial(Bus.connect, nats_server.url))
    flows, drafts = await bus.bucket("flows"), await bus.bucket("flow_drafts")
    await flows.create(revision_key("default", "booking", 1), record(source, 1))
    await flows.create(revision_key("default", "booking", 2), record(source, 2, "http"))
    await drafts.put(draft_key("default", "booking", "a" * 64), record(source, 0, "http"))

    of_file = await read_assignment(link, await requested(bus, "file", 1), 60)
    assert "crm" in of_file.bound.flow.tools
    for identity in (
        await requested(bus, "http", 2),
        await requested(bus, "draft", 0, test=True, flow_draft="a" * 64),
    ):
        with pytest.raises(InvalidFlow, match="has no commands, unless ANTIPHON_AGENT_MCP_COMMANDS=true"):
            await read_assignment(link, identity, 60)
    monkeypatch.setenv("ANTIPHON_AGENT_MCP_COMMANDS", "true")
    assert (await read_assignment(link, await requested(bus, "allowed", 2), 60)).bound.flow.id == "booking"
    await link.close()


async def requested(bus: Bus, name: str, revision: int, **more: Any) -> Identity:
    """Publish the request of a session."""
    identity = Identity(named_session_id("default", name), "default")
    event = SessionRequested(
        flow_id="booking", flow_revision=revision, user_id="u", room=identity.session_id, **more
    )
    envelope = seal(
        event,
        id=requested_id(identity.session_id),
        session_id=identity.session_id,
        tenant="default",
        producer="session-api",
        producerseq=1,
        time=AT,
    )
    await bus.publish(outgoing(envelope))
    return identity


async def resumes_its_revision(bus: Bus, sessions: Sessions, worker: Worker) -> None:
    """The agent of a session is killed, its flow is published again, and another agent takes over."""
    session_id = await sessions.request(revision=1)
    await sessions.wait_for(session_id, "agent.joined")
    worker.job().kill()
    await sessions.wait_for(session_id, "agent.left")
    changed = FLOW.replace("Good evening, this is the table desk.", "Good morning, this is the new desk.")
    await (await bus.bucket("flows")).create(revision_key("default", "booking", 9), record(changed, 9))
    deployment = await deployment_of(bus)
    metadata = {"session_id": session_id, "tenant": "default", "deployment": deployment.id}
    await sessions.rooms.agent_dispatch.create_dispatch(
        api.CreateAgentDispatchRequest(
            agent_name=deployment.agent_name, room=session_id, metadata=json.dumps(metadata)
        )
    )
    async with sessions.caller(session_id) as caller:
        await caller.wait_until_ready(timeout_seconds=60)
    ready = open_event(await sessions.wait_for(session_id, "agent.ready"))
    assert isinstance(ready, AgentReady)
    assert ready.greeting.startswith("Good evening, this is the table desk.")
    joined = [one for one in await sessions.events(session_id) if one.type == "agent.joined"]
    assert len(joined) == 2
    await sessions.wait_until_closed(session_id)


async def test_a_worker_runs_what_was_published_and_says_what_it_cannot(
    bus: Bus, live_sessions: Sessions, start_worker: Callable[..., Worker]
) -> None:
    """One worker for all: its start takes most of the time."""
    worker = start_worker(DEEPGRAM_API_KEY="never sent")
    flows, drafts = await bus.bucket("flows"), await bus.bucket("flow_drafts")

    await resumes_its_revision(bus, live_sessions, worker)

    # it checks for others
    request = msgspec.json.encode(FlowCheckRequest(source=FLOW))
    reply = decode_check_reply(await bus.request(FLOW_CHECK, request, timeout_seconds=60))
    assert reply.summary is not None, reply.problems

    # a revision that only this worker cannot load: the session fails with that reason, on record
    broken = FLOW.replace(TOOL, "no_such_package.tools:book_table")
    assert broken != FLOW
    await flows.create(revision_key("default", "booking", 2), record(broken, 2))
    failing = await live_sessions.request(revision=2)
    error = await live_sessions.wait_for(failing, "agent.error")
    assert b"no_such_package" in bytes(error.data)
    assert b"InvalidFlow" in bytes(error.data)
    detail = await failure(live_sessions, failing)
    line = next(number for number, text in enumerate(broken.splitlines(), 1) if "no_such_package" in text)
    assert detail.startswith(f"booking@2:{line}: tools.book_table.python: the module 'no_such_")
    await live_sessions.wait_until_closed(failing)
    assert "session.closed" not in {envelope.type for envelope in await live_sessions.events(failing)}

    # a new revision and a draft are there at once; a session of before keeps its own
    await flows.create(revision_key("default", "booking", 3), record(FLOW + "\n# 3\n", 3))
    session_id = await live_sessions.request(revision=3)
    joined = await live_sessions.wait_for(session_id, "agent.joined")
    assert joined.subject == session_id
    await drafts.put(draft_key("default", "booking", "a" * 64), record(FLOW, 0))
    tried = await live_sessions.request(revision=0, test=True, flow_draft="a" * 64)
    await live_sessions.wait_for(tried, "agent_state_changed")
    gone = await live_sessions.request(revision=0, test=True, flow_draft="b" * 64)
    error = await live_sessions.wait_for(gone, "agent.error")
    assert b"has no draft any more" in bytes(error.data)
    assert "has no draft any more" in await failure(live_sessions, gone)

    # a provider that refuses, when it is made, what the check let pass
    refused = FLOW.replace("tts: offline}", "tts: {use: deepgram, speed: 9}}")
    await flows.create(revision_key("default", "booking", 4), record(refused, 4))
    detail = await failure(live_sessions, await live_sessions.request(revision=4))
    assert detail.startswith("booking@4: the tts provider 'deepgram' refuses: speed must be between")

    # a secret that is not set on this machine
    keyless = FLOW.replace("tts: offline}", 'tts: {use: deepgram, api_key: "{secret.NOWHERE}"}}')
    await flows.create(revision_key("default", "booking", 5), record(keyless, 5))
    detail = await failure(live_sessions, await live_sessions.request(revision=5))
    line = FLOW[: FLOW.index("tts: offline}")].count("\n") + 1
    assert detail.startswith(f"booking@5:{line}: voice.tts.api_key: the secret 'NOWHERE' is not set")
