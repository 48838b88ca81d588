"""Flows over HTTP: published as revisions that agent workers have checked, read, compared, and tried."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
import pytest
from tests.session_api.conftest import Buckets, Put, Running

from antiphon.chassis.bus import Bus
from antiphon.contracts.envelope import decode
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.flows import (
    FLOW_CHECK,
    FLOW_CHECKERS,
    MAX_SOURCE_BYTES,
    FlowCheckReply,
    FlowProblem,
    FlowRevision,
    FlowSummary,
    decode_check_request,
    revision_key,
)
from antiphon.contracts.registry import open_event
from antiphon.contracts.subjects import session_filter
from antiphon.session_api.flows.known import without_source

YAML = {"Content-Type": "application/yaml"}
EDITOR = ("sessions:read", "sessions:write", "flows:read", "flows:write")
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


def source(flow_id: str = "desk", *lines: str) -> str:
    return "\n".join((f"id: {flow_id}", "name: Desk", *lines, ""))


async def check(payload: bytes) -> bytes:
    """Answer as an agent worker does, for sources of this test."""
    request = decode_check_request(payload)
    lines = request.source.splitlines()
    if "slow" in lines:
        await asyncio.sleep(1)
    if "broken" in lines:
        problems = [
            FlowProblem(line=lines.index("broken") + 1, place="agents.host", reason="is wrong"),
            FlowProblem(line=9, place="", reason="is wrong too"),
        ]
        return msgspec.json.encode(FlowCheckReply(problems=problems))
    summary = FlowSummary(
        flow_id=lines[0].removeprefix("id: "),
        name="Desk",
        description="A desk",
        language="en",
        greeting="Good day.",
        requires=[line.removeprefix("requires ") for line in lines if line.startswith("requires ")],
    )
    return msgspec.json.encode(FlowCheckReply(summary=summary))


@pytest.fixture
async def checker(bus: Bus) -> AsyncIterator[None]:
    responder = await bus.serve(FLOW_CHECK, check, group=FLOW_CHECKERS, deadline_seconds=60)
    yield
    await responder.close()


@pytest.fixture
async def editor(running: Running, put_key: Put, until: Until) -> AsyncIterator[httpx.AsyncClient]:
    digest = await put_key("editor", scopes=EDITOR)
    headers = {"Authorization": "Bearer editor"}

    async def known() -> bool:
        return running.dependencies.keys.usable(digest)

    await until(known)
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=90) as client:
        yield client


async def put(client: httpx.AsyncClient, text: str, flow_id: str = "desk", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(f"/v1/flows/{flow_id}", content=text, headers={**YAML, **named})


async def requested(bus: Bus, session_id: str) -> SessionRequested:
    async for stored in bus.read(session_filter("*", session_id)):
        event = open_event(decode(stored.payload))
        if isinstance(event, SessionRequested):
            return event
    raise AssertionError("no session.requested")


async def test_a_flow_is_published_and_read(editor: httpx.AsyncClient, checker: None) -> None:
    first = await put(editor, source())
    again = await put(editor, source())
    second = await put(editor, source("desk", "# changed"))

    assert (first.status_code, first.headers["etag"]) == (201, '"1"')
    assert first.headers["location"] == "/v1/flows/desk/revisions/1"
    assert "source" not in first.json()
    assert (again.status_code, again.headers["etag"], again.json()) == (200, '"1"', first.json())
    assert (second.status_code, second.json()["revision"]) == (201, 2)

    newest = await editor.get("/v1/flows/desk")
    assert newest.json()["source"] == source("desk", "# changed")
    assert newest.json()["origin"] == "http"
    old = await editor.get("/v1/flows/desk/revisions/1", headers={"Accept": "application/yaml"})
    assert (old.text, old.headers["content-type"].partition(";")[0]) == (source(), "application/yaml")
    assert old.headers["etag"] == '"1"'
    listed = (await editor.get("/v1/flows/desk/revisions")).json()
    assert [one["revision"] for one in listed["revisions"]] == [2, 1]
    assert listed["next"] is None
    assert (await editor.get("/v1/flows/desk/revisions/3")).status_code == 404
    assert (await editor.get("/v1/flows/nothing")).status_code == 404


async def test_a_flow_that_has_not_changed_is_not_sent_again(
    editor: httpx.AsyncClient, checker: None
) -> None:
    await put(editor, source())
    for etag in ('"1"', 'W/"1"', '"0", "1"', "*"):
        found = await editor.get("/v1/flows/desk", headers={"If-None-Match": etag})
        assert (found.status_code, found.content, found.headers["etag"]) == (304, b"", '"1"')
    await put(editor, source("desk", "# 2"))
    changed = await editor.get("/v1/flows/desk", headers={"If-None-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')


async def test_json_with_the_source_is_the_same(editor: httpx.AsyncClient, checker: None) -> None:
    sent = await editor.put("/v1/flows/desk", json={"source": source()})
    assert sent.status_code == 201
    assert (await put(editor, source())).status_code == 200


@pytest.mark.parametrize("body", [{}, [], {"source": 3}, {"source": "a", "tenant": "other"}])
async def test_other_json_is_refused(editor: httpx.AsyncClient, checker: None, body: object) -> None:
    sent = await editor.put("/v1/flows/desk", json=body)
    assert (sent.status_code, sent.json()["type"].rpartition("/")[2]) == (422, "invalid-request")


async def test_every_problem_has_its_line_and_place(
    editor: httpx.AsyncClient, checker: None, bus: Bus
) -> None:
    refused = await put(editor, source("desk", "broken"))

    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["type"].endswith("/invalid-flow")
    assert refused.json()["problems"] == [
        {"line": 3, "place": "agents.host", "reason": "is wrong"},
        {"line": 9, "place": "", "reason": "is wrong too"},
    ]
    assert "line 3: agents.host: is wrong" in refused.json()["detail"]
    assert await (await bus.bucket("flows")).get("default.desk.1") is None


async def test_the_id_in_the_file_is_that_of_the_path(editor: httpx.AsyncClient, checker: None) -> None:
    refused = await put(editor, source("other"))
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["line"] == 1
    assert (await editor.get("/v1/flows/desk")).status_code == 404


async def test_lost_updates_are_refused(editor: httpx.AsyncClient, checker: None) -> None:
    assert (await put(editor, source(), if_match='"1"')).status_code == 412
    assert (await put(editor, source(), if_match="*")).status_code == 412
    assert (await put(editor, source(), if_none_match="*")).status_code == 201
    taken = await put(editor, source("desk", "# mine"), if_none_match="*")
    assert (taken.status_code, taken.json()["newest_revision"]) == (412, 1)
    assert (await put(editor, source("desk", "# 2"), if_match='"1"')).status_code == 201
    lost = await put(editor, source("desk", "# mine"), if_match='"1"')
    assert (lost.status_code, lost.json()["newest_revision"]) == (412, 2)
    assert (await put(editor, source("desk", "# 3"), if_match='W/"2"')).status_code == 201
    assert (await put(editor, source("desk", "# 4"), if_match="*")).status_code == 201
    for wrong in ("3", '"x"', '"0"', '"99999999999"'):
        assert (await put(editor, source(), if_match=wrong)).status_code == 422
    assert (await put(editor, source(), if_none_match='"1"')).status_code == 422


async def test_a_retry_after_a_lost_answer_succeeds(editor: httpx.AsyncClient, checker: None) -> None:
    await put(editor, source())
    first = await put(editor, source("desk", "# 2"), if_match='"1"')
    again = await put(editor, source("desk", "# 2"), if_match='"1"')
    assert (first.status_code, again.status_code, again.headers["etag"]) == (201, 200, '"2"')


async def test_concurrent_puts_are_all_kept(editor: httpx.AsyncClient, checker: None, until: Until) -> None:
    texts = [source("desk", f"# {number}") for number in range(12)]
    answers = await asyncio.gather(*(put(editor, text) for text in texts))

    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["revision"] for answer in answers) == list(range(1, 13))
    stored = [(await editor.get(f"/v1/flows/desk/revisions/{n}")).json()["source"] for n in range(1, 13)]
    assert sorted(stored) == sorted(texts)


async def test_of_concurrent_conditional_puts_one_wins(editor: httpx.AsyncClient, checker: None) -> None:
    await put(editor, source())
    answers = await asyncio.gather(
        *(put(editor, source("desk", f"# {number}"), if_match='"1"') for number in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201, *[412] * 7]
    newest = (await editor.get("/v1/flows/desk")).json()
    winner = next(answer for answer in answers if answer.status_code == 201)
    assert (newest["revision"], newest["sha256"]) == (2, winner.json()["sha256"])


async def test_without_a_worker_nothing_is_published(editor: httpx.AsyncClient, bus: Bus) -> None:
    refused = await put(editor, source())
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "flow-check-unavailable")
    assert "agent worker" in refused.json()["detail"]
    assert refused.headers["retry-after"]
    assert await (await bus.bucket("flows")).get("default.desk.1") is None


async def test_a_slow_worker_is_given_up(
    start: Callable[..., Awaitable[Running]], put_key: Put, checker: None, until: Until
) -> None:
    running = await start(flow_check_seconds=0.2)
    digest = await put_key("editor", scopes=EDITOR)

    async def known() -> bool:
        return running.dependencies.keys.usable(digest)

    await until(known)
    async with httpx.AsyncClient(
        base_url=running.url, headers={"Authorization": "Bearer editor"}, timeout=60
    ) as client:
        refused = await put(client, source("desk", "slow"))
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "flow-check-unavailable")


async def test_nonsense_of_a_worker_publishes_nothing(editor: httpx.AsyncClient, bus: Bus) -> None:
    async def nonsense(payload: bytes) -> bytes:
        return b'{"problems": 3}'

    responder = await bus.serve(FLOW_CHECK, nonsense, group=FLOW_CHECKERS, deadline_seconds=5)
    assert (await put(editor, source())).status_code == 503
    await responder.close()


async def test_a_body_of_ten_megabytes_is_refused_before_it_is_read(
    editor: httpx.AsyncClient, checker: None
) -> None:
    """The server answers, and reads no more of it: a client that goes on to send may lose the answer."""
    for path, method in (("/v1/flows/desk", "PUT"), ("/v1/flows/desk/test-audio", "POST")):
        try:
            sent = await editor.request(method, path, content=b"x" * (10 << 20), headers=YAML)
        except (httpx.WriteError, httpx.ReadError):
            continue
        assert sent.status_code in (413, 415)
    assert (await put(editor, source())).status_code == 201


@pytest.mark.parametrize("size", [MAX_SOURCE_BYTES + 1, (1 << 20) + 1])
async def test_a_large_body_is_refused(editor: httpx.AsyncClient, checker: None, size: int) -> None:
    sent = await put(editor, "x" * size)
    assert (sent.status_code, sent.json()["type"].rpartition("/")[2]) == (413, "content-too-large")


async def test_a_flow_whose_json_is_too_large_is_told_so(editor: httpx.AsyncClient, checker: None) -> None:
    sent = await put(editor, source() + "\n# " + '"' * (MAX_SOURCE_BYTES // 2))
    assert sent.status_code == 413
    assert "bytes, as the JSON that is stored" in sent.json()["detail"]


async def test_a_large_flow_is_taken(editor: httpx.AsyncClient, checker: None) -> None:
    text = source("desk", "# " + "é" * 200_000)
    assert (await put(editor, text)).status_code == 201
    assert (await editor.get("/v1/flows/desk")).json()["source"] == text


async def test_a_flow_that_grows_as_json_is_refused_in_time(editor: httpx.AsyncClient, checker: None) -> None:
    sent = await put(editor, source("desk", "#" + '"' * 300_000))
    assert sent.status_code == 413


@pytest.mark.parametrize(
    "flow_id", ["a.b", "A", "a b", "a*", ">", "a" * 64, "..%2f..%2fkeys", "a%2Fb", "default.desk", "%00", "é"]
)
async def test_what_cannot_be_an_id_is_unknown(
    editor: httpx.AsyncClient, checker: None, flow_id: str
) -> None:
    for method, path in (
        ("PUT", ""),
        ("GET", ""),
        ("GET", "/revisions"),
        ("GET", "/diff"),
        ("POST", "/test-audio"),
    ):
        answer = await editor.request(method, f"/v1/flows/{flow_id}{path}", content=b"")
        assert answer.status_code in (404, 405), (method, path)


async def test_what_is_not_utf_8_has_its_line(editor: httpx.AsyncClient, checker: None) -> None:
    sent = await editor.put("/v1/flows/desk", content=b"id: desk\nname: \xff\n", headers=YAML)
    assert (sent.status_code, sent.json()["problems"][0]["line"]) == (422, 2)


async def test_another_media_type_is_refused(editor: httpx.AsyncClient, checker: None) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = await editor.put("/v1/flows/desk", content=source(), headers=form)
    assert (sent.status_code, "application/yaml" in sent.json()["detail"]) == (415, True)


async def test_scopes_are_needed(client: httpx.AsyncClient, editor: httpx.AsyncClient, checker: None) -> None:
    """The keys of before read no sources, and publish nothing."""
    await put(editor, source())
    assert (await put(client, source())).status_code == 403
    assert (await client.post("/v1/flows/desk/test-audio")).status_code == 403
    for path in ("", "/revisions", "/revisions/1", "/diff"):
        assert (await client.get(f"/v1/flows/desk{path}")).status_code == 403
    assert (await client.get("/v1/flows")).status_code == 200


async def test_tenants_do_not_see_each_other(
    editor: httpx.AsyncClient, checker: None, put_key: Put, running: Running, until: Until
) -> None:
    digest = await put_key("stranger", tenant="other", scopes=EDITOR)

    async def known() -> bool:
        return running.dependencies.keys.usable(digest)

    await until(known)
    await put(editor, source())
    headers = {"Authorization": "Bearer stranger", "X-Tenant": "default", "Antiphon-Tenant": "default"}
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=60) as stranger:
        for path in ("", "/revisions", "/revisions/1", "/diff"):
            assert (await stranger.get(f"/v1/flows/desk{path}")).status_code == 404
        mine = await put(stranger, source("desk", "# mine"), if_none_match="*")
        assert (mine.status_code, mine.json()["revision"]) == (201, 1)
    assert (await editor.get("/v1/flows/desk")).json()["source"] == source()


async def test_revisions_come_in_pages(editor: httpx.AsyncClient, checker: None) -> None:
    for number in range(5):
        await put(editor, source("desk", f"# {number}"))
    found: list[int] = []
    path: str | None = "/v1/flows/desk/revisions?limit=2"
    while path is not None:
        got = (await editor.get(path)).json()
        found += [one["revision"] for one in got["revisions"]]
        path = got["next"] and f"/v1/flows/desk/revisions?limit=2&cursor={got['next']}"
    assert found == [5, 4, 3, 2, 1]


async def test_two_revisions_are_compared(editor: httpx.AsyncClient, checker: None) -> None:
    await put(editor, source("desk", "# one"))
    await put(editor, source("desk", "# two"))
    text = (await editor.get("/v1/flows/desk/diff", headers={"Accept": "text/plain"})).text
    found = (await editor.get("/v1/flows/desk/diff?from=1&to=2")).json()

    assert text.splitlines()[:2] == ["--- desk@1", "+++ desk@2"]
    assert "-# one\n+# two\n" in text
    assert found == {"flow_id": "desk", "from": 1, "to": 2, "diff": text}
    assert (await editor.get("/v1/flows/desk/diff?from=2&to=2")).json()["diff"] == ""
    backwards = (await editor.get("/v1/flows/desk/diff?from=2&to=1")).json()["diff"]
    assert "-# two\n+# one\n" in backwards
    assert (await editor.get("/v1/flows/desk/diff?from=7")).status_code == 404
    assert (await editor.get("/v1/flows/desk/diff?from=x")).status_code == 422


def test_sources_are_not_kept_in_memory(buckets: Buckets) -> None:
    record = FlowRevision(
        flow_id="desk",
        revision=1,
        name="x" * 100_000,
        description="y" * 100_000,
        language="en",
        source="z" * 300_000,
        sha256="0" * 64,
        created_at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
        greeting="g" * 100_000,
        requires=["metadata.a"] * 1000,
    )
    kept = without_source(msgspec.json.encode(record))

    assert len(kept) < 10_000
    assert json.loads(kept)["requires"] == ["metadata.a"] * 100
    assert without_source(b"\xff") == without_source(b"{") == b""
    assert revision_key("default", "desk", 1) == "default.desk.1"
