"""GET of one session, its turns and its events: from the views, or from the bus until committed."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from antiphon.chassis.database import Database
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.events.agent import AgentReady
from antiphon.contracts.events.session import (
    CloseReason,
    FaultSide,
    SessionAdopted,
    SessionClosed,
    SessionRequested,
)
from antiphon.contracts.events.turn import TurnSaved

UNKNOWN = "ses_00000000000000000000000000"
CLOSED = SessionClosed(reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=3.0, turns=0)
READY = AgentReady(greeting="Good evening.", ready_ms=640.0)


async def test_session_is_the_fold_of_committed_events(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    await persistence.commit(session_id, READY)

    session = (await client.get(f"/v1/sessions/{session_id}")).json()

    assert (session["status"], session["greeting"], session["sequence"]) == ("ready", "Good evening.", 3)


async def test_session_is_the_same_before_and_after_commit(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    before = (await client.get(f"/v1/sessions/{session_id}")).json()
    await persistence.catch_up(session_id)
    after = (await client.get(f"/v1/sessions/{session_id}")).json()

    assert before == {**after, "sequence": 0}


@pytest.mark.parametrize("malformed", ["ses_*", "nonsense", "ses_1.>", "%00", UNKNOWN[:-1], UNKNOWN.upper()])
@pytest.mark.parametrize("part", ["", "/turns", "/events"])
async def test_malformed_id_responds_404(malformed: str, part: str, rejecting: httpx.AsyncClient) -> None:
    response = await rejecting.get(f"/v1/sessions/{malformed}{part}")

    assert response.status_code == 404
    assert response.json()["type"].endswith("/unknown-session")


async def _refusals(client: httpx.AsyncClient, session_id: str, key: str) -> list[int]:
    headers = {"Authorization": f"Bearer {key}"}
    parts = ("", "/turns", "/events")
    return [
        (await client.get(f"/v1/sessions/{session_id}{part}", headers=headers)).status_code for part in parts
    ]


async def test_unknown_session_responds_404(client: httpx.AsyncClient) -> None:
    assert await _refusals(client, UNKNOWN, "writer") == [404, 404, 404]


async def test_session_of_another_tenant_responds_404(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    before = await _refusals(client, session_id, "foreign")
    await persistence.catch_up(session_id)
    after = await _refusals(client, session_id, "foreign")

    assert (before, after) == ([404, 404, 404], [404, 404, 404])


async def test_event_has_sequence_and_position(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    committed = await persistence.catch_up(session_id)

    page = (await client.get(f"/v1/sessions/{session_id}/events")).json()

    assert [event["type"] for event in page["events"]] == ["session.requested", "session.dispatched"]
    assert [event["sequence"] for event in page["events"]] == [1, 2]
    assert [event["position"] for event in page["events"]] == [e.position for e in committed]
    assert page["events"][0]["data"]["flow_id"] == "booking"
    assert page["next"] is None


async def test_events_are_paginated(client: httpx.AsyncClient, session_id: str, persistence: Any) -> None:
    await persistence.commit(session_id, *[READY] * 3)
    path, seen = f"/v1/sessions/{session_id}/events", []
    params: dict[str, Any] = {"limit": 2}

    while params.get("cursor", "") is not None:
        page = (await client.get(path, params=params)).json()
        seen += [event["sequence"] for event in page["events"]]
        params["cursor"] = page["next"]

    assert seen == [1, 2, 3, 4, 5]
    rest = (await client.get(path, params={"after": 3})).json()["events"]
    assert [event["sequence"] for event in rest] == [4, 5]


async def test_turns_are_paginated_in_order(
    client: httpx.AsyncClient, session_id: str, database: Database
) -> None:
    turn = TurnSaved(turn=1, agent_id="host", user_text="hello", metrics={"e2e_latency": 0.6})
    metrics = json.dumps(turn.metrics)
    rows = [(session_id, n, f"answer {n}", datetime.now(UTC), n + 2, metrics) for n in (1, 2, 3)]
    await database.pool.executemany(
        """insert into turns (session_id, epoch, turn, tenant, agent_id, state, interrupted, recovered,
               occurred_at, sequence, first_sequence, tool_call_ids, metrics, user_text, assistant_text)
           values ($1, '', $2, 'default', 'host', 'saved', false, false, $4, $5, $5, '[]', $6, 'hey', $3)""",
        rows,
    )

    first = (await client.get(f"/v1/sessions/{session_id}/turns", params={"limit": 2})).json()
    rest = (await client.get(f"/v1/sessions/{session_id}/turns", params={"cursor": first["next"]})).json()

    assert [t["assistant_text"] for t in first["turns"]] == ["answer 1", "answer 2"]
    assert [t["assistant_text"] for t in rest["turns"]] == ["answer 3"]
    assert rest["next"] is None
    shown = first["turns"][0]
    assert (shown["epoch"], shown["state"], shown["recovered"]) == ("", "saved", False)
    assert {"turn", "agent_id", "user_text", "assistant_text", "assistant_text_generated"} <= set(shown)
    assert (shown["metrics"], shown["interrupted"]) == (turn.metrics, False)


async def test_turns_of_two_agents_are_in_the_order_of_their_begin(
    client: httpx.AsyncClient, session_id: str, persistence: Any, database: Database
) -> None:
    rows = [("AJ_1", 1, "saved", 3), ("AJ_2", 1, "saved", 4), ("AJ_1", 2, "open", 6), ("AJ_2", 2, "saved", 7)]
    await database.pool.executemany(
        f"""insert into turns (session_id, epoch, turn, tenant, agent_id, state, interrupted, recovered,
                occurred_at, sequence, first_sequence, tool_call_ids, metrics)
            values ('{session_id}', $1, $2, 'default', 'host', $3, false, false,
                    now(), 20 - $4, $4, '[]', '{{}}')
        """,
        rows,
    )
    await persistence.commit(session_id, READY)

    shown: list[dict[str, Any]] = []
    params = {"limit": 1}
    while params.get("cursor", "") is not None:
        page = (await client.get(f"/v1/sessions/{session_id}/turns", params=params)).json()
        shown += page["turns"]
        params["cursor"] = page["next"]
    assert [(t["epoch"], t["turn"], t["state"], t["first_sequence"]) for t in shown] == rows

    await persistence.commit(session_id, CLOSED)
    page = (await client.get(f"/v1/sessions/{session_id}/turns")).json()
    assert [t["state"] for t in page["turns"]] == ["saved", "saved", "unfinished", "saved"]


async def test_a_session_that_nobody_requested_has_no_flow(
    client: httpx.AsyncClient, persistence: Any
) -> None:
    adopted = "ses_00000000000000000000000008"
    await persistence.commit(adopted, SessionAdopted(room="lobby", user_id="ada", metadata={"order": 1}))

    session = (await client.get(f"/v1/sessions/{adopted}")).json()

    assert (session["room"], session["user_id"], session["metadata"]) == ("lobby", "ada", {"order": 1})
    assert (session["flow_id"], session["flow_revision"]) == (None, None)


async def test_the_events_that_could_not_be_read_are_counted(
    client: httpx.AsyncClient, session_id: str, persistence: Any, database: Database
) -> None:
    await persistence.catch_up(session_id)
    await database.pool.execute("update sessions set skipped = 3")

    assert (await client.get(f"/v1/sessions/{session_id}")).json()["skipped"] == 3


@pytest.mark.parametrize(
    ("part", "wrong", "field"),
    [
        ("/events", {"after": -1}, "after"),
        ("/events", {"after": "x"}, "after"),
        ("/events", {"after": 1, "cursor": "x"}, "after"),
        ("/events", {"cursor": "AQAAAAA"}, "cursor"),
        ("/events", {"limit": 0}, "limit"),
        ("/events", {"limit": 1001}, "limit"),
        ("/turns", {"cursor": "x"}, "cursor"),
        ("/turns", {"cursor": "9" * 30}, "cursor"),
        ("/turns", {"limit": 201}, "limit"),
    ],
)
async def test_invalid_parameter_is_named(
    part: str, wrong: dict[str, Any], field: str, rejecting: httpx.AsyncClient
) -> None:
    response = await rejecting.get(f"/v1/sessions/{UNKNOWN}{part}", params=wrong)

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


async def test_uncommitted_session_is_not_listed(
    client: httpx.AsyncClient, session_id: str, persistence: Any
) -> None:
    before = (await client.get("/v1/sessions")).json()["sessions"]
    await persistence.catch_up(session_id)
    after = (await client.get("/v1/sessions")).json()["sessions"]

    assert before == []
    assert [session["session_id"] for session in after] == [session_id]


async def test_missing_view_responds_503(
    client: httpx.AsyncClient, session_id: str, database: Database
) -> None:
    await database.pool.execute("drop table sessions")

    response = await client.get(f"/v1/sessions/{session_id}")

    assert response.status_code == 503


async def test_view_of_another_version_responds_503(
    client: httpx.AsyncClient, session_id: str, database: Database
) -> None:
    await database.pool.execute("alter table sessions drop column details")

    response = await client.get(f"/v1/sessions/{session_id}")

    assert response.status_code == 503


async def test_session_without_its_first_events_is_shown(client: httpx.AsyncClient, persistence: Any) -> None:
    late = "ses_00000000000000000000000007"
    request = SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=late)
    await persistence.commit(late, READY, request)

    assert (await client.get(f"/v1/sessions/{late}")).json()["status"] == "ready"


async def test_committed_sessions_are_readable_without_the_broker(
    client: httpx.AsyncClient, session_id: str, persistence: Any, nats_server: NatsServer
) -> None:
    await persistence.commit(session_id, CLOSED)
    nats_server.stop()

    session = await client.get(f"/v1/sessions/{session_id}")
    listed = await client.get("/v1/sessions")
    page = await client.get(f"/v1/sessions/{session_id}/events")
    stream = await client.get(f"/v1/sessions/{session_id}/events", headers={"Accept": "text/event-stream"})

    assert (session.status_code, session.json()["status"]) == (200, "closed")
    assert len(listed.json()["sessions"]) == 1
    assert len(page.json()["events"]) == 3
    assert stream.text.count("data: ") == 3
