"""Ready means that every check passes; otherwise the body names those that fail, and why."""

import asyncio

from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from antiphon.chassis import health_metrics
from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.health import Health, routes, serve_health
from antiphon.cli.stack.nats import NatsServer
from antiphon.cli.stack.ports import free_port
from antiphon.cli.stack.postgres import Postgres


async def get(health: Health, path: str) -> Response:
    transport = ASGITransport(Starlette(routes=routes(health)))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


async def fine() -> None:
    return None


async def broken() -> None:
    raise RuntimeError("the tank is empty")


async def hanging() -> None:
    await asyncio.sleep(60)


async def test_a_process_that_answers_is_live() -> None:
    response = await get(Health({"tank": broken}), "/health/live")

    assert (response.status_code, response.json()) == (200, {"status": "live"})


async def test_ready_when_all_checks_pass() -> None:
    response = await get(Health({"tank": fine}), "/health/ready")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "checks": {"tank": {"ok": True, "detail": ""}}}


async def test_the_body_names_failing_checks_and_reasons() -> None:
    health = Health({"good": fine, "tank": broken}, timeout_seconds=0.05)
    health.add("slow", hanging)

    response = await get(health, "/health/ready")

    assert response.status_code == 503
    assert response.json() == {
        "status": "unready",
        "checks": {
            "good": {"ok": True, "detail": ""},
            "tank": {"ok": False, "detail": "the tank is empty"},
            "slow": {"ok": False, "detail": "no answer within 0.05 s"},
        },
    }


async def test_a_stopped_broker_and_a_stopped_database_fail_their_checks(
    nats_server: NatsServer, postgres_server: Postgres, bus: Bus, database: Database
) -> None:
    health = Health({"bus": bus.ready, "database": database.ready})
    assert (await get(health, "/health/ready")).status_code == 200

    nats_server.stop()
    postgres_server.stop()

    response = await get(health, "/health/ready")
    assert response.status_code == 503
    assert [check["ok"] for check in response.json()["checks"].values()] == [False, False]
    nats_server.start()
    postgres_server.start()
    await bus.ready(timeout_seconds=10)
    assert (await get(health, "/health/ready")).status_code == 200


async def test_serve_health_answers_until_stopped() -> None:
    port, stop = free_port(), asyncio.Event()
    serving = asyncio.create_task(serve_health(Health({"tank": fine}), "127.0.0.1", port, stop))
    async with AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with asyncio.timeout(60):
            while True:
                try:
                    response = await client.get("/health/ready")
                    break
                except OSError:
                    await asyncio.sleep(0.02)
                except Exception as error:
                    if "ConnectError" not in type(error).__name__:
                        raise
                    await asyncio.sleep(0.02)
    assert response.json()["status"] == "ready"

    stop.set()
    await asyncio.wait_for(serving, 60)


async def test_a_check_that_is_added_during_a_report_is_in_it() -> None:
    """Else a process is ready between the end of its start and the start of its work."""
    health = Health()

    async def failing() -> None:
        raise RuntimeError("has not begun")

    async def starting() -> None:
        health.add("work", failing)

    health.add("start", starting)

    report = await health.report()

    assert report["status"] == "unready"
    assert report["checks"] == {
        "start": {"ok": True, "detail": ""},
        "work": {"ok": False, "detail": "has not begun"},
    }


async def test_the_health_server_limits_headers() -> None:
    stop, port = asyncio.Event(), free_port()
    serving = asyncio.create_task(serve_health(Health(), "127.0.0.1", port, stop))
    async with asyncio.timeout(60):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                await asyncio.sleep(0.01)
        writer.write(b"GET /health/live HTTP/1.1\r\nX-One: " + b"v" * 100_000)
        assert b" 431 " in await reader.readline()
        writer.close()
        stop.set()
        await serving


async def test_the_metric_says_what_the_last_look_found() -> None:
    tank = asyncio.Event()

    async def full() -> None:
        if not tank.is_set():
            raise RuntimeError("the tank is empty")

    def found() -> list[float]:
        return [value for _, value in health_metrics.ready.series()]

    async def until(value: float) -> None:
        async with asyncio.timeout(30):
            while found() != [value]:  # noqa: ASYNC110 - a gauge has no event
                await asyncio.sleep(0.01)

    async with Health({"tank": full}).watched(seconds=0.01):
        await until(0)
        tank.set()
        await until(1)

    assert found() == []
