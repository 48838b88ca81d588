"""GET /v1/events/export: everything up to the head, in lines, resumable at every control line."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.session_api.conformance import Conformance
from tests.session_api.conftest import Running
from tests.session_api.feed.conftest import (
    KINDS,
    READY,
    TOOL,
    TURN,
    LogWriter,
    assert_each_once_in_order,
    keys_of,
    requested,
)

from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.events.turn import TurnSaved
from antiphon.contracts.subjects import PARTITIONS
from antiphon.session_api.feed import export as export_module
from antiphon.session_api.feed.filters import EventFilter

Json = dict[str, Any]
PATH = "/v1/events/export"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a control line after a few events."""
    monkeypatch.setattr(export_module, "STEP", 16)


@pytest.fixture
async def written(writer: LogWriter) -> LogWriter:
    """A log of 10 sessions of the tenant with 20 events each, and one of another tenant."""
    sessions = [writer.session(f"s{number}") for number in range(10)]
    await writer.commit_all(
        [(each, requested("booking" if n % 2 else "")) for n, each in enumerate(sessions)]
    )
    for number in range(19):
        await writer.commit_all([(each, KINDS[number % len(KINDS)]) for each in sessions])
    return writer


def split(body: bytes) -> tuple[list[Json], list[Json]]:
    """Return the events and the control lines of a body."""
    assert body.endswith(b"\n")
    lines = [json.loads(line) for line in body.splitlines()]
    return [line for line in lines if "specversion" in line], [line for line in lines if "cursor" in line]


def keys(events: Sequence[Json]) -> list[tuple[str, int]]:
    return [(event["subject"], event["sequence"]) for event in events]


async def exported(client: httpx.AsyncClient, **params: Any) -> list[Json]:
    """Return the events of a complete export."""
    response = await client.get(PATH, params=params)
    assert response.status_code == 200, response.text
    events, controls = split(response.content)
    assert [control["complete"] for control in controls] == [False] * (len(controls) - 1) + [True]
    assert controls[-1]["progress"] == 1.0
    assert {control["tenant"] for control in controls} == {"default"}
    return events


async def test_an_export_is_the_log(written: LogWriter, client: httpx.AsyncClient) -> None:
    await written.commit(written.session("x", "other"), TURN, tenant="other")
    own = [envelope for envelope in written.log if envelope.tenant == "default"]

    events = await exported(client)

    assert sorted(events, key=lambda event: int(event["position"])) == [
        json.loads(encode(envelope)) for envelope in own
    ]
    assert_each_once_in_order(keys(events), keys_of(own))


async def test_it_ends_at_the_head_of_the_request(written: LogWriter, client: httpx.AsyncClient) -> None:
    before = keys_of(written.log)
    async with client.stream("GET", PATH) as response:
        lines = response.aiter_lines()
        first = json.loads(await anext(lines))
        await written.commit(written.session("late"), TURN)
        events, _ = split("\n".join([line async for line in lines]).encode() + b"\n")

    assert first["complete"] is False
    assert_each_once_in_order(keys(events), before)


async def test_every_control_line_is_a_place_to_go_on(written: LogWriter, client: httpx.AsyncClient) -> None:
    body = (await client.get(PATH)).content
    lines, whole = body.splitlines(), keys_of(written.log)
    controls = [number for number, line in enumerate(lines) if line.startswith(b'{"cursor":')]
    assert len(controls) > 5
    await written.commit(written.session("late"), TURN)

    for number in controls[:-1]:
        control = json.loads(lines[number])
        before = [json.loads(line) for line in lines[:number]]
        rest = await exported(client, after=control["cursor"], until=control["until"])
        got = keys([event for event in before if "specversion" in event]) + keys(rest)
        assert_each_once_in_order(got, whole)


async def test_an_export_of_nothing_is_complete(client: httpx.AsyncClient) -> None:
    assert await exported(client) == []
    assert await exported(client, after="now") == []


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"type": "turn.saved"}, {"turn.saved"}),
        ({"type": ["turn.saved", "agent.ready"]}, {"turn.saved", "agent.ready"}),
        ({"family": "tool"}, {"tool.started"}),
    ],
)
async def test_only_what_the_filter_names(
    written: LogWriter, client: httpx.AsyncClient, params: Json, wanted: set[str]
) -> None:
    events = await exported(client, **params)

    assert_each_once_in_order(keys(events), keys_of(e for e in written.log if e.type in wanted))


async def test_one_session_and_one_flow(written: LogWriter, client: httpx.AsyncClient) -> None:
    session = written.session("s3")

    one = await exported(client, session_id=session)
    flow = await exported(client, flow_id="booking", type="turn.saved")

    assert keys(one) == keys_of(e for e in written.log if e.subject == session)
    booking = {each for each, flow_id in written.flows.items() if flow_id == "booking"}
    assert_each_once_in_order(
        keys(flow), keys_of(e for e in written.log if e.subject in booking and e.type == "turn.saved")
    )


async def test_since_and_until_are_times_of_the_commit(writer: LogWriter, client: httpx.AsyncClient) -> None:
    session = writer.session("s")
    await writer.commit(session, TURN)
    await asyncio.sleep(0.02)
    first = datetime.now(UTC)
    await asyncio.sleep(0.02)
    await writer.commit(session, READY)
    await asyncio.sleep(0.02)
    second = datetime.now(UTC)
    await asyncio.sleep(0.02)
    await writer.commit(session, TOOL)

    assert keys(await exported(client, since=first.isoformat())) == [(session, 2), (session, 3)]
    assert keys(await exported(client, until=first.isoformat())) == [(session, 1)]
    between = await exported(client, since=first.isoformat(), until=second.isoformat())
    assert keys(between) == [(session, 2)]
    future = (second + timedelta(days=1)).isoformat()
    assert len(await exported(client, until=future)) == 3
    assert await exported(client, since=second.isoformat(), until=first.isoformat()) == []


async def test_an_export_of_one_session_ends_at_until(writer: LogWriter, client: httpx.AsyncClient) -> None:
    session = writer.session("s")
    await writer.commit(session, requested("booking"), TURN)
    await writer.commit(writer.session("t"), TURN)
    await asyncio.sleep(0.02)
    until = datetime.now(UTC).isoformat()
    await asyncio.sleep(0.02)
    await writer.commit(session, READY, TURN)
    own = keys_of(e for e in writer.log if e.subject == session)

    assert keys(await exported(client, session_id=session, until=until)) == own[:2]
    assert keys(await exported(client, session_id=session, until=until, type="turn.saved")) == own[1:2]
    assert keys(await exported(client, session_id=session)) == own


async def test_the_steps_of_one_session_end_at_their_cursor(writer: LogWriter, running: Running) -> None:
    reader, session = running.dependencies.hubs.reader, writer.session("s")
    await writer.commit(session, *[TURN] * 300)
    until = await reader.log.head()
    await writer.commit(session, *[READY] * 300)

    async def steps(cursor: Cursor, until: Cursor) -> tuple[list[tuple[str, int]], Cursor]:
        found: list[Envelope] = []
        while not cursor.reaches(until, range(PARTITIONS)):
            one = EventFilter(session_id=session)
            batch = await reader.step("default", one, cursor, until, limit=70, max_bytes=1 << 20)
            found += batch.envelopes
            cursor = batch.cursor
        return keys_of(found), cursor

    first, reached = await steps(Cursor(), until)
    second, _ = await steps(reached, await reader.log.head())

    assert first == keys_of(writer.log)[:300]
    assert reached == until
    assert second == keys_of(writer.log)[300:]


@pytest.mark.parametrize(
    ("params", "kind", "said"),
    [
        ({"until": "2026-13-01T00:00:00Z"}, "invalid-request", "month"),
        ({"until": "2026-01-01"}, "invalid-request", "RFC 3339"),
        ({"until": "nothing"}, "invalid-cursor", "is not a cursor"),
        ({"after": "nothing"}, "invalid-cursor", "is not a cursor"),
        ({"after": "now", "since": "2026-01-01T00:00:00Z"}, "invalid-request", "one of the two"),
        ({"type": "turn.save"}, "invalid-request", "did you mean turn.saved"),
        ({"limit": "3"}, "invalid-request", "limit"),
        ({"without_pii": "maybe"}, "invalid-request", "without_pii"),
        ({"until": ""}, "invalid-request", "until"),
    ],
)
async def test_what_is_not_valid_is_named(
    client: httpx.AsyncClient, params: Json, kind: str, said: str
) -> None:
    response = await client.get(PATH, params=params)

    assert response.status_code == 422
    assert response.json()["type"].endswith(f"/{kind}")
    assert said in response.text


async def test_personal_fields_are_left_out(writer: LogWriter, client: httpx.AsyncClient) -> None:
    secret = "my name is Ada Lovelace"
    session = writer.session("s")
    await writer.commit(session, TurnSaved(turn=1, agent_id="host", user_text=secret, metrics={"ms": 3}))

    with_it = await client.get(PATH)
    without = await client.get(PATH, params={"without_pii": "true"})

    assert secret in with_it.text
    assert secret not in without.text
    [event], _ = split(without.content)
    assert (event["data"]["agent_id"], event["data"]["metrics"]) == ("host", {"ms": 3})
    assert "user_text" not in event["data"]


async def test_it_is_compressed_if_asked_line_by_line(written: LogWriter, running: Running) -> None:
    headers = {"Authorization": "Bearer reader", "Accept-Encoding": "gzip"}
    async with httpx.AsyncClient(base_url=running.url, headers=headers) as client:
        async with client.stream("GET", PATH) as response:
            raw = b"".join([chunk async for chunk in response.aiter_raw()])
        plain = await client.get(PATH, headers={"Accept-Encoding": "identity"})

    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 3


async def test_the_answers_fit_the_document(written: LogWriter, running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url, headers={"Authorization": "Bearer reader"}) as client:
        conformance = Conformance((await client.get("/openapi.json")).json())
        for params in ({}, {"without_pii": "true"}, {"until": "nothing"}, {"type": "x"}):
            conformance.check(await client.get(PATH, params=params))
        head = await client.head(PATH)

    assert head.status_code == 200
    assert head.headers["content-type"].startswith("application/x-ndjson")
    assert head.content == b""


async def test_a_tenant_has_few_exports_at_a_time(written: LogWriter, running: Running) -> None:
    headers = {"Authorization": "Bearer reader"}
    slots = running.dependencies.exports
    async with httpx.AsyncClient(base_url=running.url, headers=headers) as client:
        with slots.taken("default"), slots.taken("default"), slots.taken("default"), slots.taken("default"):
            refused = await client.get(PATH)
            other = await client.get(PATH, headers={"Authorization": "Bearer foreign"})
        after = await client.get(PATH)

    assert refused.status_code == 429
    assert (refused.json()["quota"], refused.json()["limit"]) == ("exports", 4)
    assert int(refused.headers["retry-after"]) > 0
    assert (other.status_code, after.status_code) == (200, 200)
    assert running.dependencies.exports._running == {}


async def test_a_client_that_leaves_ends_its_export(written: LogWriter, running: Running) -> None:
    headers = {"Authorization": "Bearer reader"}
    async with (
        httpx.AsyncClient(base_url=running.url, headers=headers) as client,
        client.stream("GET", PATH) as response,
    ):
        await anext(response.aiter_bytes())

    async with asyncio.timeout(60):
        while running.dependencies.exports._running:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_an_outage_of_postgres_cuts_the_export_off(
    written: LogWriter, running: Running, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.chassis.database import DatabaseUnavailable

    steps = running.dependencies.hubs.reader.step
    left = [3]

    async def failing(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise DatabaseUnavailable("away")
        return await steps(*arguments, **named)

    monkeypatch.setattr(running.dependencies.hubs.reader, "step", failing)
    events, controls = split((await client.get(PATH)).content)
    left[0] = 10_000
    rest = await exported(client, after=controls[-1]["cursor"], until=controls[-1]["until"])

    assert not any(control["complete"] for control in controls)
    assert events
    assert_each_once_in_order(keys(events) + keys(rest), keys_of(written.log))


async def test_a_key_without_the_scope_gets_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH, headers={"Authorization": "Bearer nothing"})).status_code == 401
