"""GET /v1/events as pages: every event once, in the order of its session, from any cursor."""

from random import Random
from typing import Any

import httpx
import pytest
from tests.session_api.feed.conftest import (
    DISPATCHED,
    KINDS,
    READY,
    TURN,
    LogWriter,
    assert_each_once_in_order,
    keys_of,
    requested,
)

from antiphon.contracts.cursor import Cursor
from antiphon.contracts.registry import EVENTS, family_of
from antiphon.session_api.feed import page as page_module

Page = dict[str, Any]


async def pages(client: httpx.AsyncClient, **params: Any) -> list[Page]:
    """Read pages until there is no more."""
    found: list[Page] = []
    while not found or found[-1]["more"]:
        if found:
            params = {**params, "after": found[-1]["next"]}
            params.pop("since", None)
        response = await client.get("/v1/events", params=params)
        assert response.status_code == 200, response.text
        found.append(response.json())
        assert len(found) < 1000
    return found


def keys(found: list[Page]) -> list[tuple[str, int]]:
    return [(event["subject"], event["sequence"]) for page in found for event in page["items"]]


async def test_an_empty_log_has_an_empty_page_with_a_cursor(client: httpx.AsyncClient) -> None:
    [page] = await pages(client)

    assert (page["items"], page["more"]) == ([], False)
    assert page["next"]


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_pages_have_every_event_of_the_tenant_once_and_in_order(
    client: httpx.AsyncClient, writer: LogWriter, limit: int
) -> None:
    ids = [writer.session(f"s{number}") for number in range(9)]
    await writer.commit_all([(one, READY) for _ in range(4) for one in ids])
    await writer.commit(writer.session("foreign", "other"), READY, TURN, tenant="other")

    found = await pages(client, limit=limit)

    assert_each_once_in_order(keys(found), keys_of(e for e in writer.log if e.tenant == "default"))
    assert all(len(page["items"]) <= limit for page in found)
    assert (await pages(client, after=found[-1]["next"]))[0]["items"] == []
    await writer.commit(ids[0], TURN)
    [later] = await pages(client, after=found[-1]["next"])
    assert [event["type"] for event in later["items"]] == ["turn.saved"]


async def test_filters_select_types_families_sessions_and_flows(
    client: httpx.AsyncClient, writer: LogWriter
) -> None:
    a, b, adopted = (writer.session(name) for name in ("a", "b", "adopted"))
    await writer.commit(a, requested("booking"), *KINDS)
    await writer.commit(b, requested("support"), *KINDS)
    await writer.commit(adopted, *KINDS)

    async def selected(**params: Any) -> list[tuple[str, str]]:
        found = await pages(client, limit=3, **params)
        return sorted((event["subject"], event["type"]) for page in found for event in page["items"])

    everything = sorted((e.subject, e.type) for e in writer.log)
    assert await selected() == everything
    assert await selected(type="turn.saved") == sorted((one, "turn.saved") for one in (a, b, adopted))
    both = {"turn.saved", "agent.ready"}
    assert await selected(type=sorted(both)) == [pair for pair in everything if pair[1] in both]
    of_sessions = [pair for pair in everything if pair[1].startswith("session.")]
    assert await selected(family="session") == of_sessions
    assert await selected(family="session", type=["session.dispatched", "turn.saved"]) == sorted(
        (one, "session.dispatched") for one in (a, b, adopted)
    )
    assert await selected(session_id=a) == [pair for pair in everything if pair[0] == a]
    assert await selected(flow_id="booking") == [pair for pair in everything if pair[0] == a]
    assert await selected(flow_id="booking", type="tool.started") == [(a, "tool.started")]
    assert await selected(flow_id="booking", session_id=b) == []
    assert await selected(flow_id="unknown") == []
    assert await selected(session_id=writer.session("nobody")) == []


async def test_random_filters_against_the_fold_of_the_log(
    client: httpx.AsyncClient, writer: LogWriter
) -> None:
    random = Random(7)
    ids = [writer.session(str(number)) for number in range(14)]
    await writer.commit_all([(one, requested(random.choice("abc"))) for one in ids[:10]])
    await writer.commit_all([(random.choice(ids), random.choice(KINDS)) for _ in range(150)])
    types = ["session.requested", *(event.TYPE for event in KINDS)]
    families = ["session", "agent", "turn", "tool"]
    for _ in range(25):
        wanted: dict[str, Any] = {}
        if random.random() < 0.5:
            wanted["type"] = random.sample(types, random.randint(1, 3))
        elif random.random() < 0.5:
            wanted["family"] = random.sample(families, random.randint(1, 2))
        if random.random() < 0.3:
            wanted["flow_id"] = random.choice("abcd")
        if random.random() < 0.2:
            wanted["session_id"] = random.choice(ids)

        found = await pages(client, limit=random.choice([5, 13, 100]), **wanted)

        expected = (
            envelope
            for envelope in writer.log
            if envelope.type in wanted.get("type", (envelope.type,))
            and family_of(envelope.type) in wanted.get("family", (family_of(envelope.type),))
            and wanted.get("flow_id") in (None, writer.flows.get(envelope.subject))
            and wanted.get("session_id") in (None, envelope.subject)
        )
        assert_each_once_in_order(keys(found), keys_of(expected))


async def test_the_flow_is_known_before_the_view_has_the_session(
    client: httpx.AsyncClient, writer: LogWriter, database: Any
) -> None:
    one = writer.session("a")
    await writer.commit(one, requested("booking"), DISPATCHED)
    first = (await client.get("/v1/events", params={"flow_id": "booking", "limit": 1})).json()
    await writer.commit(one, READY)

    rest = await pages(client, flow_id="booking", after=first["next"])

    assert await database.pool.fetchval("select count(*) from sessions") == 0
    assert keys([first, *rest]) == [(one, 1), (one, 2), (one, 3)]


async def test_now_and_since_start_later(client: httpx.AsyncClient, writer: LogWriter) -> None:
    one = writer.session("a")
    await writer.commit(one, READY)
    [now] = await pages(client, after="now")
    [early] = await pages(client, since="2026-01-01T00:00:00Z")
    [late] = await pages(client, since="2099-01-01T00:00:00Z")
    await writer.commit(one, TURN)

    assert (now["items"], late["items"]) == ([], [])
    assert keys([early]) == [(one, 1)]
    assert keys(await pages(client, after=now["next"])) == [(one, 2)]
    assert keys(await pages(client, after=late["next"])) == [(one, 2)]


async def test_a_filter_that_leaves_out_a_long_log_answers_in_time(
    client: httpx.AsyncClient, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "SCAN_SECONDS", 0.0)
    for name in "ab":
        await writer.commit(writer.session(name), requested("support"), *[READY] * 300)
    last = await writer.commit(writer.session("c"), requested("booking"))
    monkeypatch.setattr(page_module, "SCAN_SECONDS", 0.001)

    found = await pages(client, flow_id="booking", limit=5)

    assert keys(found) == keys_of(last)
    assert any(not page["items"] and page["more"] for page in found)


async def test_large_events_make_small_pages(client: httpx.AsyncClient, writer: LogWriter) -> None:
    large = READY.__class__(greeting="x" * 700_000, ready_ms=1.0)
    for number in range(8):
        await writer.commit(writer.session(str(number)), large, large)

    found = await pages(client, limit=1000)

    assert_each_once_in_order(keys(found), keys_of(writer.log))
    assert len(found) >= 3


@pytest.mark.parametrize("where", ["after", "Last-Event-ID"])
@pytest.mark.parametrize("kind", ["corrupt", "changed", "foreign", "future"])
async def test_a_cursor_that_is_not_of_this_log_responds_422(
    client: httpx.AsyncClient, writer: LogWriter, kind: str, where: str
) -> None:
    await writer.commit(writer.session("a"), READY)
    good = (await pages(client))[-1]["next"]
    middle = len(good) // 2
    text = {
        "corrupt": "17",
        "changed": good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :],
        "foreign": Cursor({1: 1}).encode("another"),
        "future": Cursor({1: 10**9}).encode("testonly"),
    }[kind]

    if where == "after":
        response = await client.get("/v1/events", params={"after": text})
    else:
        headers = {"Last-Event-ID": text, "Accept": "text/event-stream"}
        response = await client.get("/v1/events", headers=headers)

    problem = response.json()
    assert response.status_code == 422
    assert problem["type"].endswith("/invalid-cursor")
    assert problem["errors"][0]["field"] == where
    assert len(problem["detail"]) > 30


async def test_unknown_filters_list_the_known_ones(client: httpx.AsyncClient) -> None:
    async def message(**params: Any) -> str:
        response = await client.get("/v1/events", params=params)
        assert response.status_code == 422
        [error] = response.json()["errors"]
        return f"{error['field']}: {error['message']}"

    of_type = await message(type="turn.save")
    assert "did you mean turn.saved?" in of_type
    assert all(event.TYPE in of_type for event in EVENTS)
    assert "session, agent, turn, tool" in await message(family="nothing")
    assert (await message(type="turn.saved", family="agent")).startswith("type: is of no family agent")
    assert (await message(after="now", since="2026-01-01T00:00:00Z")).startswith("since: takes no `after`")
    assert (await message(session_id="17")).startswith("session_id: ")
    assert "it takes" in await message(cursor="x") or "did you mean" in await message(cursor="x")


async def test_the_scope_to_read_sessions_is_needed(
    client: httpx.AsyncClient, put_key: Any, until: Any
) -> None:
    await put_key("blind", scopes=("sessions:write",))

    async def refused() -> bool:
        response = await client.get("/v1/events", headers={"Authorization": "Bearer blind"})
        assert response.status_code in (401, 403)
        return bool(response.status_code == 403)  # 401 until the service knows the key

    await until(refused)
