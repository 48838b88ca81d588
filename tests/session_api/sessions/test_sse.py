"""GET /v1/sessions/{id}/events as server-sent events: history, then live events, without gaps, to the end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.livekit import LiveKitParticipantLeft, LiveKitRoomFinished
from antiphon.contracts.events.session import (
    CloseReason,
    FailureReason,
    FaultSide,
    SessionClosed,
    SessionFailed,
)
from antiphon.session_api.sessions import sse

UNKNOWN = "ses_00000000000000000000000000"
READY = AgentReady(greeting="Good evening.\r\nWelcome.", ready_ms=640.0)
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)
FAILED = SessionFailed(reason=FailureReason.AGENT_LOST, attempts=1)
LEFT = LiveKitParticipantLeft(webhook_id="EV_1", room="r", payload={})
FINISHED = LiveKitRoomFinished(webhook_id="EV_2", room="r", payload={})
ACCEPT = {"Accept": "text/event-stream"}

Chunks = AsyncIterator[str]


@asynccontextmanager
async def _stream(
    client: httpx.AsyncClient, session_id: str, headers: dict[str, str] | None = None, **params: Any
) -> AsyncIterator[Chunks]:
    """Open a stream and iterate over its blocks: `id: …`, `event: …`, `data: …`, or a comment."""
    async with client.stream(
        "GET", f"/v1/sessions/{session_id}/events", params=params, headers={**ACCEPT, **(headers or {})}
    ) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")

        async def blocks() -> Chunks:
            buffer = ""
            async for text in response.aiter_text():
                buffer += text
                while "\n\n" in buffer:
                    block, buffer = buffer.split("\n\n", 1)
                    yield block

        yield blocks()


def _parse(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    return {"id": int(fields["id"]), "event": fields["event"], "data": json.loads(fields["data"])}


def _is_event(block: str) -> bool:
    return block.startswith("id:")


async def _all(client: httpx.AsyncClient, session_id: str, **options: Any) -> list[dict[str, Any]]:
    async with asyncio.timeout(60), _stream(client, session_id, **options) as blocks:
        return [_parse(block) async for block in blocks if _is_event(block)]


async def _next(blocks: Chunks) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            block = await anext(blocks)
            if _is_event(block):
                return _parse(block)


async def test_ended_session_is_replayed_and_the_stream_ends(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, READY, CLOSED, LEFT, FINISHED, READY)

    events = await _all(client, session_id)

    page = (await client.get(f"/v1/sessions/{session_id}/events")).json()
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["data"] for event in events] == page["events"]
    assert [event["event"] for event in events] == [event["type"] for event in page["events"]]


@pytest.mark.parametrize("last", [CLOSED, FAILED])
async def test_history_then_live_until_the_end(
    last: SessionClosed | SessionFailed, client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.catch_up(session_id)
    async with _stream(client, session_id) as blocks:
        history = [await _next(blocks), await _next(blocks)]
        await persistence.commit(session_id, READY)
        live = await _next(blocks)
        await persistence.commit(session_id, last)
        end = await _next(blocks)
        await persistence.commit(session_id, LEFT, FINISHED)
        async with asyncio.timeout(60):
            rest = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in history] == [1, 2]
    assert (live["id"], live["event"], live["data"]["data"]["greeting"]) == (3, "agent.ready", READY.greeting)
    assert (end["id"], end["event"]) == (4, last.TYPE)
    assert [event["id"] for event in rest] == [5, 6]


async def test_uncommitted_session_can_be_followed(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    async with _stream(client, session_id) as blocks:
        await persistence.commit(session_id, CLOSED, FINISHED)
        async with asyncio.timeout(60):
            events = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in events] == [1, 2, 3, 4]


@pytest.mark.parametrize("resume", [{"headers": {"Last-Event-ID": "2"}}, {"after": 2}])
async def test_stream_resumes_after_a_sequence(
    resume: dict[str, Any], client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED, FINISHED)

    assert [event["id"] for event in await _all(client, session_id, **resume)] == [3, 4]


async def test_last_event_id_takes_precedence_over_after(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED, FINISHED)

    events = await _all(client, session_id, after=0, headers={"Last-Event-ID": "3"})

    assert [event["id"] for event in events] == [4]


async def test_resume_after_the_end_responds_204(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED, FINISHED)

    response = await client.get(f"/v1/sessions/{session_id}/events", headers={**ACCEPT, "Last-Event-ID": "4"})

    assert (response.status_code, response.content) == (204, b"")


async def test_resume_after_the_end_returns_later_events(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED, FINISHED)
    first = await _all(client, session_id)
    await persistence.commit(session_id, READY)

    second = await _all(client, session_id, headers={"Last-Event-ID": "4"})

    assert [event["id"] for event in first] == [1, 2, 3, 4]
    assert [event["id"] for event in second] == [5]


async def test_a_room_that_nobody_reports_as_finished_ends_the_stream_in_time(
    client: httpx.AsyncClient, session_id: str, persistence: Any, soon_settled: None
) -> None:
    await persistence.commit(session_id, CLOSED, LEFT)

    assert [event["id"] for event in await _all(client, session_id)] == [1, 2, 3, 4]
    assert [event["id"] for event in await _all(client, session_id, after=3)] == [4]
    await asyncio.sleep(1)
    response = await client.get(f"/v1/sessions/{session_id}/events", params={"after": 4}, headers=ACCEPT)
    assert response.status_code == 204


async def test_a_reader_that_reconnects_right_after_the_end_receives_the_late_events(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, CLOSED)
    async with _stream(client, session_id, after=3) as blocks:
        await anext(blocks)
        await persistence.commit(session_id, LEFT, FINISHED)
        async with asyncio.timeout(60):
            rest = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in rest] == [4, 5]
    response = await client.get(f"/v1/sessions/{session_id}/events", params={"after": 5}, headers=ACCEPT)
    assert response.status_code == 204


async def test_an_agent_that_reports_the_end_after_livekit_does_ends_the_stream(
    client: httpx.AsyncClient, session_id: str, persistence: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "QUIET_SECONDS", 5.0)
    async with _stream(client, session_id) as blocks:
        await persistence.commit(session_id, FINISHED)
        await persistence.commit(session_id, CLOSED)
        await persistence.commit(session_id, LEFT)
        async with asyncio.timeout(60):
            events = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("headers", [ACCEPT, {}])
async def test_a_sequence_beyond_the_end_responds_422(
    headers: dict[str, str], client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    async def after(sequence: int) -> httpx.Response:
        url = f"/v1/sessions/{session_id}/events"
        return await client.get(url, params={"after": sequence}, headers=headers)

    uncommitted = await after(1)
    await persistence.commit(session_id, READY)
    beyond = await after(4)
    await persistence.commit(session_id, CLOSED, FINISHED)
    ended = await after(2**31 - 1)

    for response, last in ((uncommitted, 0), (beyond, 3), (ended, 5)):
        problem = response.json()
        assert response.status_code == 422
        assert problem["type"].endswith("/sequence-beyond-end")
        assert problem["last_sequence"] == last
        assert str(last) in problem["detail"]


async def test_a_reader_resumes_right_after_an_event_that_it_received_live(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    for _ in range(10):
        async with _stream(client, session_id) as blocks:
            await persistence.commit(session_id, READY)
            last = 0
            while last < len(persistence._committed[session_id]):
                last = (await _next(blocks))["id"]
        async with _stream(client, session_id, headers={"Last-Event-ID": str(last)}) as blocks:
            assert (await anext(blocks)).startswith("retry:")


async def test_heartbeats_are_sent_between_events(start: Any, session_id: str) -> None:
    running = await start(heartbeat_seconds=0.05)
    async with (
        httpx.AsyncClient(base_url=running.url, headers={"Authorization": "Bearer reader"}) as client,
        _stream(client, session_id) as blocks,
        asyncio.timeout(60),
    ):
        received = [await anext(blocks) for _ in range(4)]

    assert received[0].startswith("retry:")
    assert received[1:] == [": keep-alive"] * 3


async def test_a_thousand_events_arrive_in_order(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, *[READY] * 600)
    async with _stream(client, session_id) as blocks:
        first = await _next(blocks)
        await persistence.commit(session_id, *[READY] * 396, CLOSED, FINISHED)
        async with asyncio.timeout(60):
            rest = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in (first, *rest)] == list(range(1, 1001))


def _streaming() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("stream:")]


async def test_disconnect_cancels_the_tasks(client: httpx.AsyncClient, session_id: str, until: Any) -> None:
    async def streaming() -> bool:
        return bool(_streaming())

    async def free() -> bool:
        return not _streaming()

    async with _stream(client, session_id) as blocks:
        await anext(blocks)
        await until(streaming)

    await until(free)


async def test_stream_ends_when_the_server_stops(start: Any, session_id: str) -> None:
    running = await start()
    headers = {"Authorization": "Bearer reader"}
    async with (
        httpx.AsyncClient(base_url=running.url, headers=headers) as client,
        _stream(client, session_id) as blocks,
        asyncio.timeout(60),
    ):
        await anext(blocks)
        running.stop.set()
        rest = [block async for block in blocks]

    assert rest == []
    assert _streaming() == []


async def test_missed_announcement_is_read_from_the_log(
    client: httpx.AsyncClient, session_id: str, persistence: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await persistence.catch_up(session_id)
    async with _stream(client, session_id) as blocks:
        await _next(blocks), await _next(blocks)
        with monkeypatch.context() as silence:
            silence.setattr(type(persistence._bus), "announce", _publish_nothing)
            await persistence.commit(session_id, READY)
        await persistence.commit(session_id, CLOSED, FINISHED)
        async with asyncio.timeout(60):
            rest = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in rest] == [3, 4, 5]


async def _publish_nothing(*_: object) -> None:
    return


async def test_broker_restart_loses_nothing(
    client: httpx.AsyncClient, session_id: str, persistence: Any, nats_server: NatsServer
) -> None:
    await persistence.catch_up(session_id)
    async with _stream(client, session_id) as blocks:
        await _next(blocks), await _next(blocks)
        nats_server.kill()
        nats_server.start()
        await persistence.commit(session_id, CLOSED, FINISHED)
        async with asyncio.timeout(60):
            rest = [_parse(block) async for block in blocks if _is_event(block)]

    assert [event["id"] for event in rest] == [3, 4]


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5"])
async def test_invalid_last_event_id_responds_422(wrong: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get(
        f"/v1/sessions/{UNKNOWN}/events", headers={**ACCEPT, "Last-Event-ID": wrong}
    )

    assert response.status_code == 422


async def test_unknown_session_responds_404(client: httpx.AsyncClient) -> None:
    response = await client.get(f"/v1/sessions/{UNKNOWN}/events", headers=ACCEPT)

    assert response.status_code == 404


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.5", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0, application/json", False),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=nan", False),
        ("text/event-streams", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_stream_is_sent_to_those_who_prefer_it(accept: str, streams: bool) -> None:
    assert sse.accepts_stream(accept) is streams
