"""/v1/keys on a real broker: create, list, rotate, revoke, and who may do it to which key."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import ApiKey, encode_key, key_digest
from antiphon.contracts.audit import Actor
from antiphon.session_api.keys import store as store_module

Put = Callable[..., Awaitable[str]]
Json = dict[str, Any]
READ = {"name": "ci", "scopes": ["sessions:read"]}


@pytest.fixture
async def admin(client: httpx.AsyncClient, running: Any, put_key: Put, until: Any) -> AsyncIterator[Any]:
    """A client with the only `admin` key of the tenant `default`."""
    async with with_key(running, "admin-secret") as admin:
        await put_key("admin-secret", scopes=("admin",))
        await until(lambda: accepted(admin))
        yield admin


@pytest.fixture
async def operator(running: Any, bus: Bus, until: Any) -> AsyncIterator[Any]:
    """A client with the key of an operator."""
    key = ApiKey(tenant="default", name="operator", scopes=frozenset({"admin"}), operator=True)
    await (await bus.bucket("keys")).put(key_digest("operator-secret"), encode_key(key))
    async with with_key(running, "operator-secret") as operator:
        await until(lambda: accepted(operator))
        yield operator


def with_key(running: Any, secret: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(base_url=running.url, headers=headers, timeout=15, verify=False)


async def accepted(client: httpx.AsyncClient) -> bool:
    return (await client.get("/v1/keys")).status_code == 200


async def status_with(running: Any, secret: str) -> int:
    async with with_key(running, secret) as client:
        return (await client.get("/v1/sessions")).status_code


async def create(client: httpx.AsyncClient, **body: Any) -> Json:
    response = await client.post("/v1/keys", json={**READ, **body})
    assert response.status_code == 201, response.text
    created: Json = response.json()
    return created


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def test_a_created_key_works_at_once_and_its_secret_is_shown_once(
    admin: httpx.AsyncClient, running: Any, bus: Bus
) -> None:
    response = await admin.post("/v1/keys", json=READ)

    created = response.json()
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["location"] == f"/v1/keys/{created['id']}"
    assert await status_with(running, created["secret"]) == 200
    shown = (await admin.get(f"/v1/keys/{created['id']}")).json()
    listed = (await admin.get("/v1/keys")).text
    bucket = await bus.bucket("keys")
    stored = await bucket.get(key_digest(created["secret"]))
    assert stored is not None
    for text in (str(shown), listed, stored.decode()):
        assert created["secret"] not in text
        assert created["prefix"] in text
    assert created["secret"].startswith(created["prefix"])
    assert len(created["secret"]) - len(created["prefix"]) >= 32
    assert shown == {**{name: created[name] for name in shown}, "last_used_at": shown["last_used_at"]}
    assert shown["last_used_at"] is not None
    assert (shown["status"], shown["tenant"], shown["scopes"]) == ("active", "default", ["sessions:read"])


async def test_a_scope_allows_what_it_says_only(admin: httpx.AsyncClient, running: Any) -> None:
    secret = (await create(admin))["secret"]
    async with with_key(running, secret) as reader:
        refused = await reader.post("/v1/keys", json=READ)
        listing = await reader.get("/v1/keys")

    assert problem(refused) == problem(listing) == (403, "missing-scope")
    assert refused.json()["scope"] == "admin"
    assert problem(await admin.get("/v1/sessions")) == (403, "missing-scope")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"tenant": "*"}, "tenant"),
        ({"tenant": "default\n"}, "tenant"),
        ({"operator": True}, "operator"),
        ({"expires_in_seconds": 5}, "expires_in_seconds"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"expires_at": 4_000_000_000}, "expires_at"),
        ({"expires_at": "2027-01-01T00:00:00Z", "expires_in_seconds": 60}, "expires_in_seconds"),
        ({"limits": {"streams": 0}}, "limits.streams"),
        ({"limits": {"streams": 501}}, "limits.streams"),
        ({"limits": {"requests_per_second": 1001}}, "limits.requests_per_second"),
    ],
)
async def test_wrong_fields_are_named(body: Json, field: str, admin: httpx.AsyncClient) -> None:
    response = await admin.post("/v1/keys", json={**READ, **body})

    assert problem(response) == (422, "invalid-request")
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_an_admin_manages_its_own_tenant_only(
    admin: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    foreign = await create(operator, tenant="acme")
    path = f"/v1/keys/{foreign['id']}"

    assert problem(await admin.post("/v1/keys", json={**READ, "tenant": "acme"})) == (403, "foreign-tenant")
    assert problem(await admin.get("/v1/keys", params={"tenant": "acme"})) == (403, "foreign-tenant")
    for response in (
        await admin.get(path),
        await admin.post(f"{path}/rotate"),
        await admin.post(f"{path}/revoke"),
    ):
        assert problem(response) == (404, "unknown-key")
    assert foreign["id"] not in (await admin.get("/v1/keys")).text
    assert foreign["id"] in (await operator.get("/v1/keys")).text
    of_acme = (await operator.get("/v1/keys", params={"tenant": "acme"})).json()["keys"]
    assert [key["id"] for key in of_acme] == [foreign["id"]]


async def test_an_admin_cannot_take_over_the_key_of_an_operator(
    admin: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    listed = (await admin.get("/v1/keys")).json()["keys"]
    [of_operator] = [key for key in listed if key["operator"]]
    path = f"/v1/keys/{of_operator['id']}"

    assert problem(await admin.post(f"{path}/rotate")) == (403, "operator-key")
    assert problem(await admin.post(f"{path}/revoke", json={"force": True})) == (403, "operator-key")
    rotated = await operator.post(f"{path}/rotate")
    assert rotated.status_code == 201
    assert rotated.json()["operator"]
    assert not (await create(operator))["operator"]


async def test_only_an_operator_raises_limits(admin: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    limits = {"requests_per_second": 5000, "streams": 9000}

    raised = await create(operator, limits=limits)
    lowered = await create(admin, limits={"streams": 1})

    assert raised["limits"] == limits
    assert lowered["limits"] == {"requests_per_second": None, "streams": 1}


async def test_a_revoked_key_is_refused_at_once_and_stays_listed(
    admin: httpx.AsyncClient, running: Any
) -> None:
    created = await create(admin)

    revoked = await admin.post(f"/v1/keys/{created['id']}/revoke")
    again = await admin.post(f"/v1/keys/{created['id']}/revoke")

    assert await status_with(running, created["secret"]) == 401
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    assert again.json()["revoked_at"] == revoked.json()["revoked_at"]
    [listed] = [key for key in (await admin.get("/v1/keys")).json()["keys"] if key["id"] == created["id"]]
    assert listed["status"] == "revoked"


async def test_the_last_admin_key_is_revoked_by_force_only(admin: httpx.AsyncClient) -> None:
    [own] = [key for key in (await admin.get("/v1/keys")).json()["keys"] if "admin" in key["scopes"]]
    path = f"/v1/keys/{own['id']}/revoke"

    assert problem(await admin.post(path)) == (409, "last-admin-key")
    expired = await admin.post(
        "/v1/keys", json={"name": "second", "scopes": ["admin"], "expires_in_seconds": 60}
    )
    assert expired.status_code == 201
    assert (await admin.post(f"/v1/keys/{expired.json()['id']}/revoke")).status_code == 200
    assert problem(await admin.post(path)) == (409, "last-admin-key")

    assert (await admin.post(path, json={"force": True})).status_code == 200
    assert (await admin.get("/v1/keys")).status_code == 401


async def test_the_old_secret_is_valid_for_the_overlap(admin: httpx.AsyncClient, running: Any) -> None:
    created = await create(admin, name="worker", limits={"streams": 3})

    response = await admin.post(f"/v1/keys/{created['id']}/rotate", json={"overlap_seconds": 3600})

    new = response.json()
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    assert new["secret"] != created["secret"]
    same = ("name", "tenant", "scopes", "limits", "expires_at")
    assert {name: new[name] for name in same} == {name: created[name] for name in same}
    assert new["rotated_from"] == created["id"]
    old = (await admin.get(f"/v1/keys/{created['id']}")).json()
    assert old["replaced_by"] == new["id"]
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=30) < left < timedelta(minutes=61)
    assert await status_with(running, created["secret"]) == 200
    assert await status_with(running, new["secret"]) == 200
    again = await admin.post(f"/v1/keys/{created['id']}/rotate")
    assert problem(again) == (409, "key-conflict")
    assert new["id"] in again.json()["detail"]


async def test_without_overlap_the_old_secret_expires_at_once(admin: httpx.AsyncClient, running: Any) -> None:
    created = await create(admin)

    new = await admin.post(f"/v1/keys/{created['id']}/rotate", json={"overlap_seconds": 0})

    async with with_key(running, created["secret"]) as old:
        assert problem(await old.get("/v1/sessions")) == (401, "expired-credentials")
    assert await status_with(running, new.json()["secret"]) == 200


async def test_of_simultaneous_rotations_one_wins(admin: httpx.AsyncClient) -> None:
    created = await create(admin)
    path = f"/v1/keys/{created['id']}/rotate"

    answers = await asyncio.gather(*(admin.post(path) for _ in range(5)))

    won = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(won) == 1
    assert {problem(answer) for answer in answers if answer.status_code != 201} == {(409, "key-conflict")}
    listed = (await admin.get("/v1/keys")).json()["keys"]
    assert [key["id"] for key in listed if key["rotated_from"] == created["id"]] == won


async def test_a_key_that_has_ended_is_not_rotated(admin: httpx.AsyncClient) -> None:
    created = await create(admin)
    await admin.post(f"/v1/keys/{created['id']}/revoke")

    response = await admin.post(f"/v1/keys/{created['id']}/rotate")

    assert problem(response) == (409, "key-conflict")
    assert len((await admin.get("/v1/keys")).json()["keys"]) == 4  # admin, writer, reader, the revoked one


@pytest.mark.parametrize("overlap", [-1, 604_801, "1"])
async def test_an_overlap_has_limits(overlap: Any, admin: httpx.AsyncClient) -> None:
    response = await admin.post(f"/v1/keys/{'key_' + '0' * 26}/rotate", json={"overlap_seconds": overlap})

    assert problem(response) == (422, "invalid-request")


async def test_a_list_is_paged_newest_first(admin: httpx.AsyncClient) -> None:
    made = [(await create(admin, name=str(number)))["id"] for number in range(3)]

    pages: list[list[str]] = []
    cursor: str | None = None
    while not pages or cursor is not None:
        query: Json = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        body = (await admin.get("/v1/keys", params=query)).json()
        pages.append([key["id"] for key in body["keys"]])
        cursor = body["next"]

    assert [len(page) for page in pages] == [2, 2, 2]  # and admin, writer, reader
    listed = [key_id for page in pages for key_id in page]
    assert listed[:3] == made[::-1]
    assert len(set(listed)) == 6
    for wrong in ("x", "key_" + "0" * 26):
        response = await admin.get("/v1/keys", params={"cursor": wrong})
        assert problem(response) == (422, "invalid-request")


@pytest.mark.parametrize("key_id", ["x", "key_*", "key_" + "0" * 26, "key_" + "0" * 26 + "%0A"])
async def test_an_unknown_key_is_404(key_id: str, admin: httpx.AsyncClient) -> None:
    assert problem(await admin.get(f"/v1/keys/{key_id}")) == (404, "unknown-key")


async def test_of_too_many_keys_those_that_ended_first_are_forgotten(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "KEYS_PER_TENANT", 5)  # admin, writer and reader are three
    first, second = await create(admin), await create(admin)

    refused = await admin.post("/v1/keys", json=READ)
    assert problem(refused) == (429, "quota-exceeded")
    assert refused.headers["retry-after"]
    await admin.post(f"/v1/keys/{first['id']}/revoke")
    third = await create(admin)

    listed = [key["id"] for key in (await admin.get("/v1/keys")).json()["keys"]]
    assert first["id"] not in listed
    assert {second["id"], third["id"]} <= set(listed)


async def test_a_revocation_on_one_replica_reaches_another(
    admin: httpx.AsyncClient, start: Any, until: Any
) -> None:
    other = await start()
    created = await create(admin)

    async def responds(status: int) -> bool:
        return await status_with(other, created["secret"]) == status

    await until(lambda: responds(200))
    await admin.post(f"/v1/keys/{created['id']}/revoke")
    await until(lambda: responds(401))


async def test_a_bootstrap_key_is_made_once_and_stays_revoked(running: Any, bus: Bus) -> None:
    store, secret = running.dependencies.key_store, "b" * 32
    assert await store.bootstrap(secret, Actor("service:test"))
    assert not await store.bootstrap(secret, Actor("service:test"))

    async with with_key(running, secret) as first:
        [own] = [key for key in (await first.get("/v1/keys")).json()["keys"] if key["operator"]]
        assert await status_with(running, secret) == 200
        assert (await create(first, tenant="acme"))["tenant"] == "acme"
        refused = await first.post(f"/v1/keys/{own['id']}/revoke")
        assert problem(refused) == (409, "last-admin-key")
        assert "last operator's key" in refused.json()["detail"]
        assert "Rotate it instead" in refused.json()["detail"]
        await first.post(f"/v1/keys/{own['id']}/revoke", json={"force": True})
    assert not await store.bootstrap(secret, Actor("service:test"))
    assert await status_with(running, secret) == 401


async def test_admins_who_revoke_each_other_at_once_leave_one(
    admin: httpx.AsyncClient, operator: httpx.AsyncClient, running: Any, start: Any, until: Any
) -> None:
    other = await start()  # a second replica
    for number in range(5):
        tenant = f"shop-{number}"
        keys = [await create(operator, tenant=tenant, scopes=["admin"], name=name) for name in ("a", "b")]
        async with with_key(running, keys[0]["secret"]) as one, with_key(other, keys[1]["secret"]) as two:
            await until(lambda two=two: accepted(two))
            answers = await asyncio.gather(
                one.post(f"/v1/keys/{keys[1]['id']}/revoke"), two.post(f"/v1/keys/{keys[0]['id']}/revoke")
            )

        listed = (await operator.get("/v1/keys", params={"tenant": tenant})).json()["keys"]
        assert sorted(key["status"] for key in listed) == ["active", "revoked"]
        assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_records_of_earlier_versions_are_shown_and_changed(
    admin: httpx.AsyncClient, running: Any, bus: Bus
) -> None:
    [old] = [key for key in (await admin.get("/v1/keys")).json()["keys"] if key["name"] == "reader"]
    assert (old["prefix"], old["last_used_at"]) == ("", None)

    revoked = await admin.post(f"/v1/keys/{old['id']}/revoke")

    assert revoked.json()["id"] == old["id"]
    assert await status_with(running, "reader") == 401
    stored = await (await bus.bucket("keys")).get(key_digest("reader"))
    assert stored is not None
    assert msgspec.json.decode(stored)["id"] == old["id"]
