"""Sessions of published flows, and test sessions: marked, replayed, and listed only when asked."""

import httpx
from tests.session_api.fake_persistence import FakePersistence
from tests.session_api.test_flow_routes import checker, editor, put, requested, source

from antiphon.chassis.bus import Bus
from antiphon.contracts.flows import decode_revision, draft_key
from antiphon.session_api.flows.store import sha256

__all__ = ["checker", "editor"]


async def test_a_session_needs_the_metadata_of_its_flow(
    editor: httpx.AsyncClient, checker: None, bus: Bus
) -> None:
    await put(editor, source("desk", "requires metadata.order", "requires metadata.customer.name"))
    body = {"flow_id": "desk", "user_id": "ada", "metadata": {"customer": {"name": None}}}
    refused = await editor.post("/v1/sessions", json=body)

    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [
        "metadata.order",
        "metadata.customer.name",
    ]
    body["metadata"] = {"customer": {"name": "Ada"}, "order": 3}
    assert (await editor.post("/v1/sessions", json=body)).status_code == 201


async def test_a_retry_is_replayed_after_a_revision_that_needs_more(
    editor: httpx.AsyncClient, checker: None
) -> None:
    await put(editor, source())
    body, key = {"flow_id": "desk", "user_id": "ada"}, {"Idempotency-Key": "one"}
    first = await editor.post("/v1/sessions", json=body, headers=key)
    await put(editor, source("desk", "requires metadata.order"))
    again = await editor.post("/v1/sessions", json=body, headers=key)

    assert (again.status_code, again.json()["session_id"]) == (201, first.json()["session_id"])
    refused = await editor.post("/v1/sessions", json=body, headers={"Idempotency-Key": "two"})
    assert refused.status_code == 422


async def test_a_session_keeps_its_revision(editor: httpx.AsyncClient, checker: None, bus: Bus) -> None:
    await put(editor, source())
    created = (await editor.post("/v1/sessions", json={"flow_id": "desk", "user_id": "a"})).json()
    await put(editor, source("desk", "# 2"))
    later = (await editor.post("/v1/sessions", json={"flow_id": "desk", "user_id": "a"})).json()

    assert (await requested(bus, created["session_id"])).flow_revision == 1
    assert (await requested(bus, later["session_id"])).flow_revision == 2
    assert not (await requested(bus, later["session_id"])).test


async def test_a_draft_is_tried(editor: httpx.AsyncClient, checker: None, bus: Bus) -> None:
    text = source("desk", "# draft")
    created = await editor.post("/v1/flows/desk/test-audio", json={"source": text, "user_id": "ada"})

    assert created.status_code == 201
    assert created.json()["token"]
    event = await requested(bus, created.json()["session_id"])
    assert (event.test, event.flow_id, event.flow_revision, event.flow_draft) == (
        True,
        "desk",
        0,
        sha256(text),
    )
    stored = await (await bus.bucket("flow_drafts")).get(draft_key("default", "desk", sha256(text)))
    assert stored is not None
    assert decode_revision(stored).source == text
    assert (await editor.get("/v1/flows/desk")).status_code == 404, "a draft is no revision"
    session = (await editor.get(f"/v1/sessions/{created.json()['session_id']}")).json()
    assert (session["test"], session["flow_draft"]) == (True, sha256(text))


async def test_a_revision_is_tried(editor: httpx.AsyncClient, checker: None, bus: Bus) -> None:
    await put(editor, source())
    await put(editor, source("desk", "# 2"))
    for body, revision in (({"revision": 1}, 1), ({}, 2), (None, 2)):
        created = await editor.post("/v1/flows/desk/test-audio", json=body)
        assert created.status_code == 201
        event = await requested(bus, created.json()["session_id"])
        assert (event.test, event.flow_revision, event.flow_draft, event.user_id) == (
            True,
            revision,
            None,
            "test",
        )


async def test_what_cannot_be_tried_is_refused(editor: httpx.AsyncClient, checker: None) -> None:
    path = "/v1/flows/desk/test-audio"
    assert (await editor.post(path, json={})).status_code == 404
    assert (await editor.post(path, json={"source": source("desk", "broken")})).status_code == 422
    assert (await editor.post(path, json={"source": source("other")})).status_code == 422
    assert (await editor.post(path, json={"source": source(), "revision": 1})).status_code == 422
    assert (await editor.post(path, json={"source": source(), "tenant": "other"})).status_code == 422
    needs = {"source": source("desk", "requires metadata.order")}
    assert (await editor.post(path, json=needs)).status_code == 422
    assert (await editor.post(path, json={**needs, "metadata": {"order": 1}})).status_code == 201


async def test_a_retry_of_a_test_is_replayed(editor: httpx.AsyncClient, checker: None) -> None:
    path, key = "/v1/flows/desk/test-audio", {"Idempotency-Key": "one"}
    body = {"source": source()}
    first = await editor.post(path, json=body, headers=key)
    again = await editor.post(path, json=body, headers=key)
    other = await editor.post(path, json={"source": source("desk", "# 2")}, headers=key)

    assert first.json()["session_id"] == again.json()["session_id"]
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "flow_draft")


async def test_the_list_has_test_sessions_only_when_asked(
    editor: httpx.AsyncClient, checker: None, persistence: FakePersistence
) -> None:
    await put(editor, source())
    real = (await editor.post("/v1/sessions", json={"flow_id": "desk", "user_id": "a"})).json()
    tried = (await editor.post("/v1/flows/desk/test-audio")).json()
    for created in (real, tried):
        await persistence.commit(created["session_id"])

    async def listed(query: str) -> list[str]:
        return [one["session_id"] for one in (await editor.get(f"/v1/sessions{query}")).json()["sessions"]]

    assert await listed("") == [real["session_id"]]
    assert await listed("?test=false&flow_id=desk") == [real["session_id"]]
    assert await listed("?test=true") == [tried["session_id"]]
