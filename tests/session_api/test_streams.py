"""Open streams: ended with their key, counted, and released in every case."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from antiphon.chassis.bus import Bus
from antiphon.contracts.api_keys import ApiKey, KeyLimits, encode_key, key_digest
from antiphon.contracts.audit import Actor
from antiphon.session_api.keys.records import Keys
from antiphon.session_api.problems import Problem
from antiphon.session_api.streams import OpenStream, Streams

SCOPES = frozenset({"sessions:read", "sessions:write"})
ENDS_WITHIN_SECONDS = 60  # under load; 15 is what users get
Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
async def put(bus: Bus, client: httpx.AsyncClient, until: Until) -> Any:
    """A function that puts a key into the bucket and waits until the server knows it."""

    async def putting(secret: str, **fields: Any) -> str:
        digest = key_digest(secret)
        key = ApiKey(tenant="default", name=secret, scopes=SCOPES, **fields)
        await (await bus.bucket("keys")).put(digest, encode_key(key))

        async def known() -> bool:
            return (await client.get("/v1/flows", headers=bearer(secret))).status_code == 200

        await until(known)
        return digest

    return putting


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, session_id: str, secret: str
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a stream and read its first bytes."""
    headers = {"Accept": "text/event-stream", **bearer(secret)}
    path = f"/v1/sessions/{session_id}/events"
    async with client.stream("GET", path, headers=headers, timeout=120) as response:
        assert response.status_code == 200, await response.aread()
        chunks = response.aiter_bytes()
        await anext(chunks)
        yield chunks


async def end_of(chunks: AsyncIterator[bytes]) -> None:
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        async for _ in chunks:
            pass


async def test_revoking_a_key_ends_its_streams_and_no_others(
    client: httpx.AsyncClient, running: Any, session_id: str, put: Any
) -> None:
    digest = await put("leaver")
    async with (
        streaming(client, session_id, "leaver") as leaving,
        streaming(client, session_id, "reader") as staying,
    ):
        await running.dependencies.key_store.revoke(digest, Actor("service:test"))
        await end_of(leaving)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await anext(staying)
    refused = await client.get(f"/v1/sessions/{session_id}/events", headers=bearer("leaver"))
    assert refused.status_code == 401


async def test_deleting_a_record_ends_its_streams(
    client: httpx.AsyncClient, bus: Bus, session_id: str, put: Any
) -> None:
    digest = await put("leaver")
    async with streaming(client, session_id, "leaver") as leaving:
        await (await bus.bucket("keys")).delete(digest)

        await end_of(leaving)


async def test_the_end_of_a_key_ends_its_streams(
    client: httpx.AsyncClient, session_id: str, put: Any
) -> None:
    await put("brief", expires_at=datetime.now(UTC) + timedelta(seconds=8))
    async with streaming(client, session_id, "brief") as chunks:
        await end_of(chunks)

    refused = await client.get(f"/v1/sessions/{session_id}", headers=bearer("brief"))
    assert refused.status_code == 401
    assert refused.json()["type"].endswith("/expired-credentials")


async def test_streams_of_a_key_are_limited_and_released(
    client: httpx.AsyncClient, running: Any, session_id: str, put: Any, until: Until
) -> None:
    await put("narrow", limits=KeyLimits(streams=1))
    headers = {"Accept": "text/event-stream", **bearer("narrow")}
    path = f"/v1/sessions/{session_id}/events"
    async with streaming(client, session_id, "narrow"):
        refused = await client.get(path, headers=headers)
        page = await client.get(path, headers=bearer("narrow"))

    assert refused.status_code == 429
    assert refused.json()["type"].endswith("/quota-exceeded")
    assert (refused.json()["quota"], refused.json()["limit"]) == ("streams", 1)
    assert refused.headers["retry-after"]
    assert page.status_code == 200

    async def released() -> bool:
        return len(running.dependencies.limits.streams) == 0

    await until(released)
    async with streaming(client, session_id, "narrow"):
        pass


async def test_streams_of_a_tenant_are_limited(start: Any, session_id: str) -> None:
    running = await start(streams_per_tenant=1)
    headers = {"Accept": "text/event-stream", **bearer("reader")}
    path = f"/v1/sessions/{session_id}/events"
    async with (
        httpx.AsyncClient(base_url=running.url) as client,
        streaming(client, session_id, "writer"),
    ):
        refused = await client.get(path, headers=headers)
        foreign = await client.get(path, headers={**headers, **bearer("foreign")})

    assert refused.status_code == 429
    assert foreign.status_code == 404


async def test_only_streams_count_as_streams(client: httpx.AsyncClient, session_id: str, put: Any) -> None:
    await put("narrow", limits=KeyLimits(streams=1))
    both = {"Accept": "application/json, text/event-stream", **bearer("narrow")}
    path = f"/v1/sessions/{session_id}"
    async with streaming(client, session_id, "narrow"):
        shown = await client.get(path, headers=both)
        created = await client.post(
            "/v1/sessions", headers=both, json={"flow_id": "booking", "user_id": "ada"}
        )
        page = await client.get(f"{path}/events", headers={**both, "Accept": "text/event-stream;q=0, */*"})

    assert (shown.status_code, created.status_code, page.status_code) == (200, 201, 200)
    assert page.headers["content-type"] == "application/json"


async def test_a_wait_whose_key_is_revoked_is_answered(
    client: httpx.AsyncClient, running: Any, session_id: str, put: Any
) -> None:
    digest = await put("leaver")
    both = {"Accept": "application/json, text/event-stream", **bearer("leaver")}
    waiting = asyncio.create_task(
        client.get(f"/v1/sessions/{session_id}?wait=ready&timeout_seconds=9", headers=both, timeout=60)
    )
    await asyncio.sleep(0.5)
    await running.dependencies.key_store.revoke(digest, Actor("service:test"))

    assert (await waiting).status_code == 202


async def test_a_stream_whose_key_ends_before_it_starts_responds_401(
    client: httpx.AsyncClient, running: Any, session_id: str, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await put("leaver")
    lookup = running.dependencies.lookup
    monkeypatch.setattr(running.dependencies.limits.streams, "_grace_seconds", 0.1)
    reached = asyncio.Event()

    async def hanging(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(lookup, "log_end", hanging)
    headers = {"Accept": "text/event-stream", **bearer("leaver")}
    opening = asyncio.create_task(
        client.get(f"/v1/sessions/{session_id}/events", headers=headers, timeout=60)
    )
    await reached.wait()
    await running.dependencies.key_store.revoke(digest, Actor("service:test"))

    response = await opening
    assert response.status_code == 401
    assert response.json()["type"].endswith("/invalid-credentials")


DIGEST = key_digest("secret")
KEY = ApiKey(tenant="acme", name="ci", scopes=SCOPES)


def streams_of(bucket: dict[str, bytes], **options: Any) -> Streams:
    times = {"check_seconds": 0.01, "grace_seconds": 0.05, "per_key": 2, "per_tenant": 3, **options}
    return Streams(Keys(bucket), asyncio.Event(), **times)


async def ended(stream: OpenStream) -> None:
    woken = asyncio.Event()
    stream.add(woken.set)
    if not stream.stopping:
        await woken.wait()
    stream.remove(woken.set)


async def test_a_stream_whose_client_does_not_read_is_cut_off() -> None:
    bucket = {DIGEST: encode_key(KEY)}
    streams = streams_of(bucket)

    with capture_logs():
        async with asyncio.timeout(60), streams.opened(DIGEST, KEY) as stream:
            bucket.clear()
            await asyncio.Event().wait()  # as a send does

    assert stream.stopping
    assert len(streams) == 0
    await streams.close()


async def test_a_cancelled_stream_is_released() -> None:
    streams = streams_of({DIGEST: encode_key(KEY)})

    async def open_one() -> None:
        async with streams.opened(DIGEST, KEY):
            await asyncio.Event().wait()

    for _ in range(3):
        tasks = [asyncio.create_task(open_one()) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert len(streams) == 2
        with pytest.raises(Problem):
            async with streams.opened(DIGEST, KEY):
                pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(streams) == 0
    assert not streams._of_keys
    assert not streams._of_tenants
    await streams.close()


async def test_a_stop_of_the_server_ends_all_streams() -> None:
    stopping = asyncio.Event()
    streams = Streams(Keys({DIGEST: encode_key(KEY)}), stopping, per_key=0, per_tenant=0)

    async with asyncio.timeout(60), streams.opened(DIGEST, KEY) as stream:
        stopping.set()
        await ended(stream)
    async with asyncio.timeout(60), streams.opened(DIGEST, KEY) as later:
        await ended(later)
    await streams.close()


async def test_the_watch_goes_on_for_streams_that_open_later() -> None:
    bucket = {DIGEST: encode_key(KEY)}
    streams = streams_of(bucket)
    async with streams.opened(DIGEST, KEY):
        pass
    await asyncio.sleep(0.1)  # the watch has ended

    with capture_logs():
        async with asyncio.timeout(60), streams.opened(DIGEST, KEY) as stream:
            bucket.clear()
            await ended(stream)
    await streams.close()
