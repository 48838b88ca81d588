"""Every answer of a whole call fits the OpenAPI document: of each route, of a stream, and problems."""

import asyncio
from typing import Any

import httpx
from tests.session_api.conformance import STREAM, Conformance, stream_events

from antiphon.cli.caller import Caller

UNKNOWN = "ses_01m7yq1we0eqq9xvayxnfetqqd"
BODY = {"flow_id": "booking", "user_id": "ada", "metadata": {"order": "A-17"}, "language": "en"}


async def test_every_answer_of_a_call_fits_the_document(http: httpx.AsyncClient) -> None:
    conformance = Conformance((await http.get("/openapi.json")).json())
    statuses: set[int] = set()

    async def ask(method: str, path: str, **options: Any) -> httpx.Response:
        response = await http.request(method, path, timeout=120, **options)
        conformance.check(response)
        statuses.add(response.status_code)
        return response

    key = {"Idempotency-Key": f"conformance-{id(conformance)}"}
    created = (await ask("POST", "/v1/sessions", json=BODY, headers=key)).json()
    path = f"/v1/sessions/{created['session_id']}"
    await ask("POST", "/v1/sessions", json=BODY, headers=key)
    following = asyncio.create_task(ask("GET", f"{path}/events", headers={"Accept": STREAM}))
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=60)
        await caller.say_until_understood("i would like to book a table for two")
        for during in ("", "/turns", "/events"):
            await ask("GET", path + during)
        await ask("POST", f"{path}/token", json={"identity": "supervisor", "ttl_seconds": 60})
        await ask("POST", f"{path}/end")
    seen = [event["type"] for event in stream_events((await following).text)]

    for after in ("", "/turns", "/events", "/events?limit=2", "/events?after=3"):
        await ask("GET", path + after)
    pages = (await ask("GET", f"{path}/events?limit=2")).json()
    await ask("GET", f"{path}/events", params={"cursor": pages["next"]})
    for query in ("", "?limit=1", "?metadata[order]=A-17&status=closed", "?user_id=ada&fault=none"):
        await ask("GET", f"/v1/sessions{query}")
    for other in ("/v1/flows", "/problems", "/problems/unknown-session"):
        await ask("GET", other)
    await ask("POST", f"{path}/end")
    await ask("POST", f"{path}/token")
    for wrong in ("", "/turns", "/events"):
        await ask("GET", f"/v1/sessions/{UNKNOWN}{wrong}")
    await ask("GET", "/v1/sessions?flow=booking")
    await ask("GET", "/v1/sessions", headers={"Authorization": "Bearer unknown"})
    await ask("DELETE", path)
    await ask("POST", "/v1/sessions", content=b"{", headers={"Content-Type": "application/json"})
    await ask("POST", "/v1/sessions", content=b"{}", headers={"Content-Type": "text/plain"})
    await ask("POST", "/v1/sessions", json={**BODY, "flow_id": "unheard-of"})
    await ask("POST", "/v1/sessions", json={**BODY, "metadata": {"x": "y" * 70_000}})

    assert {200, 201, 400, 401, 404, 405, 409, 413, 415, 422} <= statuses
    assert {"session.requested", "agent.ready", "turn.saved", "session.closed"} <= set(seen)
