"""What session-api serves at `/metrics`, on its own port: right numbers, a bounded number of series."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.fixtures.scraped import Scraped, scrape
from tests.session_api.conftest import settings_for

from antiphon.chassis.bus import Bus
from antiphon.chassis.metrics import OTHER
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.session_api.main import serve
from antiphon.session_api.problem_types import PROBLEMS

if TYPE_CHECKING:
    from tests.session_api.conftest import Buckets, Put
    from tests.session_api.fake_livekit import FakeLiveKit

DURATION = "http_server_request_duration_seconds_count"
TENANTS = 20
AT_ONCE = 20


@dataclass
class Api:
    """A session-api, as its process runs it."""

    client: httpx.AsyncClient
    metrics_url: str

    async def scrape(self) -> Scraped:
        """Return its metrics now."""
        return await scrape(self.metrics_url)


@pytest.fixture
async def api(
    bus: Bus, nats_server: NatsServer, postgres_dsn: str, livekit: "FakeLiveKit", buckets: "Buckets"
) -> AsyncIterator[Api]:
    port, metrics_port, stop = free_port(), free_port(), asyncio.Event()
    settings = settings_for(
        livekit.url,
        nats_url=nats_server.url,
        postgres_dsn=postgres_dsn,
        port=port,
        metrics_port=metrics_port,
        failures_per_address=0,
        requests_per_key=0,
        requests_per_tenant=0,
        creates_per_tenant=0,
    )
    serving = asyncio.create_task(serve(settings, stop))
    headers = {"Authorization": "Bearer writer"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        await _until_ready(client, serving)
        yield Api(client, f"http://127.0.0.1:{metrics_port}")
    stop.set()
    await asyncio.wait_for(serving, 30)


async def _until_ready(client: httpx.AsyncClient, serving: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(60):
        while True:
            assert not serving.done(), serving
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def counted(api: Api) -> AsyncIterator[Callable[..., Awaitable[float]]]:
    """Give the increase of a sample since the block began: the numbers are those of the whole process."""
    before = await api.scrape()

    async def increase(name: str, **labels: str) -> float:
        return (await api.scrape())(name, **labels) - before(name, **labels)

    yield increase


async def test_requests_problems_and_publishes_are_counted(api: Api) -> None:
    before = (await api.scrape()).values_of("type")  # of other tests in this process
    async with counted(api) as increase:
        created = await api.client.post("/v1/sessions", json={"flow_id": "booking", "user_id": "u"})
        assert created.status_code == 201, created.text
        session_id = created.json()["session_id"]
        await api.client.head(f"/v1/sessions/{session_id}")
        await api.client.get(f"/v1/sessions/{session_id}", headers={"Authorization": "Bearer nobody"})
        await api.client.get("/no/such/path")
        await api.client.request("PROPFIND", "/v1/sessions")

        one = {"http_route": "/v1/sessions/{session_id}"}
        labels = {"http_route": "/v1/sessions", "http_response_status_code": "201"}
        assert await increase(DURATION, http_request_method="POST", **labels) == 1
        assert await increase("http_server_request_duration_seconds_bucket", le="10.0", **labels) == 1
        assert await increase(DURATION, http_request_method="HEAD", **one) == 1
        unmatched = {"http_route": "unmatched"}
        assert await increase(DURATION, **unmatched, http_response_status_code="404") == 1
        assert await increase(DURATION, **unmatched, http_response_status_code="401") == 1
        assert await increase(DURATION, http_request_method=OTHER, http_response_status_code="405") == 1
        assert await increase("antiphon_http_problems_total", type="not-found") >= 1
        assert await increase("antiphon_http_problems_total", type="invalid-credentials") == 1
        published = {"messaging_destination_name": "SESSIONS", "messaging_operation_name": "publish"}
        assert await increase("messaging_client_operation_duration_seconds_count", **published) == 2
        assert await increase("db_client_operation_duration_seconds_count", db_operation_name="SELECT") > 0
    found = await api.scrape()
    assert found("antiphon_http_connections") >= 1
    assert found("http_server_active_requests") == found("antiphon_http_streams") == 0
    assert found.values_of("type") - before <= {*PROBLEMS, "method-not-allowed"}
    assert "/health/ready" not in found.values_of("http_route")


async def test_a_stream_is_counted_while_it_is_open(api: Api) -> None:
    route = {"http_route": "/v1/events"}
    async with counted(api) as increase:
        headers = {"Accept": "text/event-stream"}
        async with api.client.stream("GET", "/v1/events", headers=headers) as response:
            assert response.status_code == 200
            found = await api.scrape()
            assert found("antiphon_http_streams") == 1
            assert found("http_server_active_requests", http_request_method="GET") == 1
            assert await increase(DURATION, **route) == 0
        async with asyncio.timeout(30):
            while await increase(DURATION, **route) != 1:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.05)
        assert (await api.scrape())("antiphon_http_streams") == 0


async def test_the_metrics_have_a_port_of_their_own(api: Api) -> None:
    assert (await api.client.get("/metrics")).status_code == 404
    async with httpx.AsyncClient(base_url=api.metrics_url) as client:
        assert (await client.get("/v1/sessions")).status_code == 404
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")


@pytest.mark.slow
async def test_more_sessions_and_strange_requests_make_no_more_series(api: Api, put_key: "Put") -> None:
    for number in range(TENANTS):
        await put_key(f"key{number}", tenant=f"tenant{number}")
    at_once = asyncio.Semaphore(AT_ONCE)

    async def use(number: int) -> None:
        headers = {"Authorization": f"Bearer key{number % TENANTS}"}
        strange = {"Authorization": f"Bearer stranger{number}"}
        async with at_once:
            await api.client.get(f"/v1/sessions/ses_{number:026d}", headers=headers)
            await api.client.get(f"/path/{number}", headers=headers)
            method = "PROPFIND" if number % 2 else f"METHOD{number}"
            await api.client.request(method, f"/v1/sessions/{number}", headers=headers)
            await api.client.get("/v1/sessions", headers=strange)
            if number % 10 == 0:
                body = {"flow_id": f"flow{number}", "user_id": f"user{number}", "metadata": {"n": number}}
                await api.client.post("/v1/sessions", json=body, headers=headers)
                body["flow_id"] = "booking"
                await api.client.post("/v1/sessions", json=body, headers={"Authorization": "Bearer writer"})

    async def use_all(numbers: range) -> Scraped:
        await asyncio.gather(*map(use, numbers))
        return await api.scrape()

    before = await use_all(range(20))
    after = await use_all(range(20, 1020))

    assert after(DURATION) - before(DURATION) >= 3_600
    assert after.series - before.series == frozenset()
    print(f"{len(after.series)} series of session-api")
