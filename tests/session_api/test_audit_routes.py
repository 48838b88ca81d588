"""/v1/audit on a real broker: each act on record before it is done, and no act without its record."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from msgspec import json

from antiphon.chassis.audit import Audit, operator
from antiphon.chassis.bus import Bus, BusError, BusUnavailable, KeyExists
from antiphon.contracts.api_keys import ApiKey, encode_key, key_digest
from antiphon.contracts.audit import DEPLOYMENT, Act, ActKind, Actor
from antiphon.contracts.streams import AUDIT
from antiphon.session_api import audit_records

Json = dict[str, Any]
Open = Callable[..., Awaitable[httpx.AsyncClient]]
NAME = "a name of a person"
WANTED: Json = {"name": NAME, "scopes": ["sessions:read"]}
BY = Actor("service:test")


@pytest.fixture
async def open_client(running: Any, bus: Bus, until: Any) -> AsyncIterator[Open]:
    """A function that returns a client with a new key."""
    clients: list[httpx.AsyncClient] = []

    async def opening(tenant: str, scope: str = "admin", **fields: Any) -> httpx.AsyncClient:
        secret = f"secret-{len(clients)}"
        key = ApiKey(tenant=tenant, name="tests", scopes=frozenset({scope}), **fields)
        await (await bus.bucket("keys")).put(key_digest(secret), encode_key(key))
        headers = {"Authorization": f"Bearer {secret}"}
        client = httpx.AsyncClient(base_url=running.url, headers=headers, timeout=15, verify=False)
        clients.append(client)

        async def known() -> bool:
            return (await client.get("/v1/audit")).status_code != 401

        await until(known)
        return client

    yield opening
    for client in clients:
        await client.aclose()


async def records(client: httpx.AsyncClient, **query: Any) -> list[Json]:
    response = await client.get("/v1/audit", params=query)
    assert response.status_code == 200, response.text
    found: list[Json] = response.json()["audit"]
    return found


async def test_acts_on_keys_are_on_record_with_who_and_from_where(open_client: Open) -> None:
    admin = await open_client("acme")
    made = (await admin.post("/v1/keys", json=WANTED, headers={"X-Request-Id": "mine"})).json()
    rotated = (await admin.post(f"/v1/keys/{made['id']}/rotate")).json()
    again = await admin.post(f"/v1/keys/{made['id']}/rotate")
    await admin.post(f"/v1/keys/{rotated['id']}/revoke")

    found = await records(admin)
    assert [(each["kind"], each["target"], each["outcome"]) for each in found] == [
        ("key.create", made["id"], "done"),
        ("key.rotate", made["id"], "done"),
        ("key.rotate", made["id"], "refused"),
        ("key.revoke", rotated["id"], "done"),
    ]
    assert again.status_code == 409
    assert rotated["id"] in found[2]["reason"]
    first = found[0]
    assert first["details"] == {"scopes": "sessions:read"}
    assert (first["tenant"], first["address"], first["request_id"]) == ("acme", "127.0.0.1", "mine")
    assert first["actor"].startswith("key:key_")
    assert first["at"] <= first["outcome_at"]
    text = str(found)
    for hidden in (NAME, made["secret"], rotated["secret"], key_digest(made["secret"])):
        assert hidden not in text


async def test_without_a_record_nothing_is_done(open_client: Open, bus: Bus) -> None:
    admin = await open_client("acme")
    made = (await admin.post("/v1/keys", json=WANTED)).json()
    before = await (await bus.bucket("keys")).keys()
    await bus.connection.api("STREAM.DELETE.KV_audit")

    answers = await asyncio.gather(
        admin.post("/v1/keys", json=WANTED),
        admin.post(f"/v1/keys/{made['id']}/rotate"),
        admin.post(f"/v1/keys/{made['id']}/revoke"),
    )

    assert [answer.status_code for answer in answers] == [503, 503, 503]
    after = await (await bus.bucket("keys")).keys()
    assert {key for key in after if "." not in key} == {key for key in before if "." not in key}
    assert (await admin.get(f"/v1/keys/{made['id']}")).json()["status"] == "active"


async def test_a_full_bucket_refuses_acts_and_says_so(
    open_client: Open, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await open_client("acme")
    made = (await admin.post("/v1/keys", json=WANTED)).json()
    await _let_it_have(bus, 10)

    answers = await asyncio.gather(
        admin.post("/v1/keys", json=WANTED), admin.post(f"/v1/keys/{made['id']}/revoke")
    )
    for answer in answers:
        assert (answer.status_code, "is full" in answer.json()["detail"]) == (503, True), answer.text
    assert (await admin.get(f"/v1/keys/{made['id']}")).json()["status"] == "active"

    # full between an act and its outcome: the answer has the only copy of the secret
    await _let_it_have(bus, 10_000)
    begin = Audit.begin

    async def fills_it(self: Audit, act: Act) -> Any:
        record = await begin(self, act)
        await _let_it_have(bus, 10)
        return record

    monkeypatch.setattr(Audit, "begin", fills_it)
    created = await admin.post("/v1/keys", json=WANTED)
    assert created.status_code == 201, created.text
    assert (await records(admin))[-1]["outcome"] == "unknown"


async def _let_it_have(bus: Bus, more: int) -> None:
    info = await bus.connection.api("STREAM.INFO.KV_audit")
    await bus.connection.api(
        "STREAM.UPDATE.KV_audit", info["config"] | {"max_bytes": info["state"]["bytes"] + more}
    )


async def test_a_tenant_sees_its_own_and_operators_see_all_without_telling_who_they_are(
    open_client: Open, bus: Bus
) -> None:
    acme, other = await open_client("acme"), await open_client("other")
    boss = await open_client("default", operator=True)
    for client, body in ((acme, WANTED), (other, WANTED), (boss, {**WANTED, "tenant": "acme"})):
        assert (await client.post("/v1/keys", json=body)).status_code == 201
    async with Audit(bus).recorded(Act(ActKind.STREAM_RECREATE, DEPLOYMENT, operator(), "SESSIONS")):
        pass

    assert [each["tenant"] for each in await records(boss)] == ["acme", "other", "acme", None]
    assert [each["tenant"] for each in await records(boss, tenant="other")] == ["other"]
    [_, by_boss] = await records(acme)
    assert by_boss["actor"] == "operator"
    assert {by_boss[name] for name in ("address", "request_id", "trace_id")} == {None}
    assert [each["tenant"] for each in await records(other)] == ["other"]
    assert (await acme.get("/v1/audit?tenant=other")).status_code == 403
    assert (await (await open_client("acme", "sessions:read")).get("/v1/audit")).status_code == 403
    [shown] = await records(boss, kind="stream.recreate")
    assert shown["actor"].startswith("operator:")


async def test_pages_filters_and_cursors(
    open_client: Open, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, other = await open_client("acme"), await open_client("other")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(5):
        audit = Audit(bus, lambda: now + timedelta(hours=number))  # noqa: B023 - called in the same turn
        kind = ActKind.KEY_CREATE if number % 2 else ActKind.FLOW_PUBLISH
        await audit.begin(Act(kind, "acme", BY, str(number)))

    async def targets(**query: Any) -> tuple[str, str | None]:
        page = (await admin.get("/v1/audit", params=query)).json()
        return "".join(each["target"] for each in page["audit"]), page["next"]

    first, following = await targets(limit=2)
    assert (first, await targets(limit=3, cursor=following)) == ("01", ("234", None))
    assert await targets(kind="key.create") == ("13", None)
    assert await targets(actor="service:test", since="2026-01-01T01:00:00Z") == ("1234", None)
    assert await targets(since="2026-01-01T01:00:00Z", until="2026-01-01T03:00:00Z") == ("12", None)
    assert await targets(actor="nobody") == ("", None)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert await targets(since=later) == ("", None)
    assert {each["outcome"] for each in await records(admin)} == {"unknown"}
    monkeypatch.setattr(audit_records, "SCANNED", 2)
    empty, following = await targets(actor="nobody")
    assert (empty, following is None) == ("", False)

    theirs = await other.get("/v1/audit", params={"cursor": following})
    assert (theirs.status_code, theirs.json()["errors"][0]["code"]) == (422, "invalid_cursor")


async def test_a_record_cannot_be_changed_or_removed(bus: Bus) -> None:
    audit, bucket = Audit(bus), await bus.bucket(AUDIT.name)
    record = await audit.begin(Act(ActKind.KEY_CREATE, "acme", BY, "target"))
    key = f"acme.{record.id}"
    stored = await bucket.entry(key)
    assert stored is not None

    with pytest.raises(KeyExists):
        await bucket.create(key, b"{}")
    for tampering in (bucket.put(key, b"{}"), bucket.delete(key)):
        with pytest.raises((BusUnavailable, BusError)):
            await asyncio.wait_for(tampering, 20)
    for verb in ("PURGE", "MSG.DELETE"):
        with pytest.raises(BusError):
            await bus.connection.api(f"STREAM.{verb}.KV_audit", {"seq": stored.revision})

    assert await bucket.entry(key) == stored


async def test_what_nobody_knows_stays_unknown(bus: Bus) -> None:
    audit, bucket = Audit(bus), await bus.bucket(AUDIT.name)
    for error in (RuntimeError, BusUnavailable):
        with pytest.raises(error):
            async with audit.recorded(Act(ActKind.KEY_CREATE, "acme", BY, "target"), KeyExists):
                raise error("no answer")
    with pytest.raises(KeyExists):
        async with audit.recorded(Act(ActKind.KEY_CREATE, "acme", BY, "target"), KeyExists):
            raise KeyExists("target")

    values = [json.decode(value) async for _, value in bucket.entries()]
    assert [value["result"] for value in values if "result" in value] == ["refused"]
    assert len(values) == 4
