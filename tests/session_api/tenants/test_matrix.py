"""Every route with keys of another tenant, of every scope and without: never a byte of the victim."""

import json
import re
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute
from tests.session_api.tenants.conftest import (
    CANARY,
    EVERY,
    FLOW,
    IDEMPOTENCY_KEY,
    INTRUDER,
    USER,
    VICTIM,
    Stack,
    as_key,
    until,
)
from tests.session_api.tenants.requests import (
    PUBLIC,
    ROUTES,
    STREAM,
    Names,
    Sent,
    of_nobody,
    of_victim,
)

from antiphon.contracts.events.turn import TurnSaved

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.embedded_servers]

VOLATILE = {"date", "x-request-id", "ratelimit", "ratelimit-policy"}
REQUEST_ID = re.compile(r"req_[0-9a-f]{24}")
LAST_USED = re.compile(r'"last_used_at":("[^"]*"|null)')  # of the keys of the tests, a while later
NO_KEYS = (None, "unknown", "revoked", "expired", "victim-ke", "victim-key x")


def endpoints(routes: Iterable[BaseRoute]) -> set[str]:
    """Return all methods and paths of an application, but HEAD and OPTIONS."""
    return {
        f"{method} {getattr(route, 'path', route)}"
        for route in routes
        for method in (getattr(route, "methods", None) or {"ANY"})
        if method not in {"HEAD", "OPTIONS"}
    }


async def send(client: httpx.AsyncClient, endpoint: str, sent: Sent) -> httpx.Response:
    method = endpoint.partition(" ")[0]
    given: dict[str, Any] = {} if sent.body is None else {"json": sent.body}
    if sent.text is not None:
        given["content"] = sent.text
    return await client.request(method, sent.path, headers=dict(sent.headers), **given)


def comparable(response: httpx.Response, names: Names) -> tuple[int, str, dict[str, str]]:
    """Return an answer without its request id, and without what the request itself named."""

    def anonymous(text: str) -> str:
        for name, value in zip(names._fields, names, strict=True):
            text = text.replace(value, f"<{name}>")
        return LAST_USED.sub("<used>", REQUEST_ID.sub("<request>", text))

    headers = {name: anonymous(text) for name, text in response.headers.items() if name not in VOLATILE}
    if response.status_code != 200 or LAST_USED.search(response.text):  # an error names the id
        headers = {name: text for name, text in headers.items() if name not in ("content-length", "etag")}
    return response.status_code, anonymous(response.text), headers


def assert_silent(response: httpx.Response) -> None:
    """Require that an answer has nothing of the victim, but what the request itself named."""
    answered = f"{response.text} {response.headers}"
    request = response.request
    named = VICTIM in str(request.url) or VICTIM.encode() in request.content
    assert CANARY not in answered
    assert named or VICTIM not in answered


async def test_every_route_has_an_entry(stack: Stack) -> None:
    assert endpoints(stack.app.router.routes) == ROUTES.keys() | PUBLIC

    with pytest.raises(AssertionError):
        assert endpoints([*stack.app.router.routes, "new"]) == ROUTES.keys() | PUBLIC  # type: ignore[list-item]


@pytest.mark.parametrize("endpoint", ROUTES)
async def test_a_route_tells_another_tenant_nothing(stack: Stack, endpoint: str) -> None:
    """With every scope: what is of another tenant is answered as what does not exist, byte for byte."""
    before = await stack.of_victim()
    theirs, nobody = of_victim(stack), of_nobody()
    async with as_key(stack, "intruder-key") as client:
        pairs = zip(ROUTES[endpoint].requests(theirs), ROUTES[endpoint].requests(nobody), strict=True)
        for found, missing in pairs:
            answer, other = await send(client, endpoint, found), await send(client, endpoint, missing)
            assert answer.status_code in found.statuses, (found, answer.text)
            assert_silent(answer)
            assert comparable(answer, theirs) == comparable(other, nobody), found
    assert await stack.of_victim() == before


@pytest.mark.parametrize("endpoint", ROUTES)
async def test_a_key_opens_what_its_scope_says(stack: Stack, endpoint: str) -> None:
    before = await stack.of_victim()
    for scope in EVERY:
        async with as_key(stack, f"intruder-{scope}") as client:
            for sent in ROUTES[endpoint].requests(of_victim(stack)):
                answer = await send(client, endpoint, sent)
                allowed = {403, *sent.statuses} if scope in ROUTES[endpoint].scopes else {403}
                assert answer.status_code in allowed, (scope, sent, answer.text)
                assert_silent(answer)
    assert await stack.of_victim() == before


@pytest.mark.parametrize("endpoint", ROUTES)
async def test_without_a_valid_key_a_route_answers_nobody(stack: Stack, endpoint: str) -> None:
    before = await stack.of_victim()
    for secret in NO_KEYS:
        async with as_key(stack, secret) as client:
            for sent in ROUTES[endpoint].requests(of_victim(stack)):
                answer = await send(client, endpoint, sent)
                assert answer.status_code == 401, (secret, sent, answer.text)
                assert_silent(answer)
    assert await stack.of_victim() == before


@pytest.mark.parametrize("endpoint", [name for name in ROUTES if name.startswith("GET")])
async def test_the_victim_gets_its_own(stack: Stack, endpoint: str) -> None:
    """Else the requests of the matrix could be wrong, and refused for another reason."""
    async with as_key(stack, "victim-key") as client:
        answers = [await send(client, endpoint, s) for s in ROUTES[endpoint].requests(of_victim(stack))[:1]]
    assert {answer.status_code for answer in answers} == {200}
    if endpoint not in ("GET /v1/analytics/daily", "GET /v1/analytics/usage", "GET /v1/audit"):
        assert CANARY in answers[0].text, answers[0].text


async def test_cursors_of_the_victim_show_nothing_of_it(stack: Stack) -> None:
    session_id, cursors = stack.session_id, stack.cursors
    async with as_key(stack, "intruder-key") as client:
        for path, statuses in (
            (f"/v1/sessions?cursor={cursors['/v1/sessions']}", {200}),
            (f"/v1/events?after={cursors['/v1/events']}", {200}),
            (f"/v1/events/export?after={cursors['/v1/events']}&until={cursors['/v1/events']}", {200}),
            (f"/v1/sessions/{session_id}/turns?cursor={cursors['turns']}", {404}),
            (f"/v1/sessions/{session_id}/events?cursor={cursors['events']}", {404}),
            (f"/v1/flows/{FLOW}/revisions?cursor={cursors['revisions']}", {404}),
        ):
            answer = await client.get(path)
            assert answer.status_code in statuses, (path, answer.text)
            assert_silent(answer)


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_stream_of_all_events_has_those_of_its_tenant(stack: Stack, resumed: bool) -> None:
    """Both tenants write while the stream is open; it ends with the intruder's own event."""
    own = f"own-{resumed}"
    headers = {**STREAM, **({"Last-Event-ID": stack.cursors["/v1/events"]} if resumed else {})}
    async with as_key(stack, "intruder-key") as client:
        made = await client.post("/v1/sessions", json={"agent_name": "mine", "user_id": "x"})
        query = f"?session_id={stack.session_id}" if resumed else ""
        async with client.stream("GET", "/v1/events", headers=headers) as stream:
            assert stream.status_code == 200
            turn = TurnSaved(turn=3, agent_id="host", user_text=CANARY)
            await stack.publish(VICTIM, stack.session_id, turn, producer=f"AJ_{own}")
            mine = TurnSaved(turn=1, agent_id="host", user_text=own)
            await stack.publish(INTRUDER, made.json()["session_id"], mine)
            seen = ""
            async for line in stream.aiter_lines():
                seen += line
                if own in line:
                    break
        async with client.stream("GET", f"/v1/events{query}", headers=STREAM) as filtered:
            assert filtered.status_code == 200
    assert CANARY not in seen
    assert VICTIM not in seen
    assert stack.session_id not in seen

    async def folded() -> bool:
        """Tell whether the victim's event is in its view: later tests compare what is shown."""
        query = """select exists (select from event_log where session_id = $1 and event_id = $2)
            and (select max(sequence) from event_log where session_id = $1) = sequence
            from sessions where session_id = $1"""
        return bool((await rows(stack, query, stack.session_id, f"{stack.session_id}:AJ_{own}:0"))[0][0])

    await until(folded)


async def test_the_same_idempotency_key_makes_another_session(stack: Stack) -> None:
    async with as_key(stack, "intruder-key") as client:
        body = {"agent_name": "mine", "user_id": USER, "metadata": {"tenant": VICTIM}}
        answers = [
            await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": IDEMPOTENCY_KEY})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert "idempotent-replayed" not in answers[0].headers
        session_id = answers[0].json()["session_id"]
        assert session_id == answers[1].json()["session_id"] != stack.session_id
        shown = (await client.get(f"/v1/sessions/{session_id}")).json()
    assert shown["tenant"] == INTRUDER  # metadata is the client's own, and no more than that
    async with as_key(stack, "victim-key") as victim:
        assert (await victim.get(f"/v1/sessions/{session_id}")).status_code == 404


async def test_a_flow_of_the_same_name_is_another_flow(stack: Stack) -> None:
    before = await stack.of_victim()
    async with as_key(stack, "intruder-key") as client:
        content = {"Content-Type": "application/yaml"}
        # the source of the victim, guessed: that it is published elsewhere must not show
        same = await client.put(
            f"/v1/flows/{FLOW}", content=f"id: {FLOW}\nname: {CANARY} 2\n", headers=content
        )
        assert (same.status_code, same.json()["revision"]) == (201, 1)
        assert (await client.get(f"/v1/flows/{FLOW}/revisions/2")).status_code == 404
    assert await stack.of_victim() == before


async def test_an_agent_of_another_tenant_cannot_add_to_a_session(stack: Stack) -> None:
    """Nor a webhook whose room claims it: the log takes events of the tenant that requested the session."""
    before = await _shown(stack, "victim-key")
    forged = TurnSaved(turn=9, agent_id="host", user_text="forged")
    await stack.publish(INTRUDER, stack.session_id, forged, producer="AJ_forged")

    async def refused() -> bool:
        query = "select payload from dead_letters"
        return any("forged" in str(row[0]) or b"forged" in bytes(row[0]) for row in await rows(stack, query))

    await until(refused)
    assert await _shown(stack, "victim-key") == before
    log = await rows(stack, "select tenant from event_log where session_id = $1", stack.session_id)
    assert {row[0] for row in log} == {VICTIM}
    async with as_key(stack, "intruder-key") as client:
        for tail in ("", "/turns", "/events"):
            answer = await client.get(f"/v1/sessions/{stack.session_id}{tail}")
            assert CANARY not in answer.text
            assert USER not in answer.text


async def rows(stack: Stack, query: str, *values: Any) -> list[Any]:
    found: list[Any] = await stack.database.pool.fetch(query, *values)
    return found


async def _shown(stack: Stack, secret: str) -> list[Any]:
    async with as_key(stack, secret) as client:
        paths = (f"/v1/sessions/{stack.session_id}{tail}" for tail in ("", "/turns", "/events"))
        return [json.loads((await client.get(path)).text) for path in paths]
