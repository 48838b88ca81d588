"""Health over HTTP: `live` if the event loop runs, `ready` if every named check passes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from antiphon.chassis import health_metrics, scrape
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.http.server import serve_http

Check = Callable[[], Awaitable[object]]

CHECK_DEADLINE_SECONDS = 3.0
WATCH_SECONDS = 10.0  # between two looks for the metric


class Health:
    """Named checks, each with a deadline; a check fails by raising. A text that it returns is its detail."""

    def __init__(
        self, checks: Mapping[str, Check] | None = None, *, timeout_seconds: float = CHECK_DEADLINE_SECONDS
    ) -> None:
        self._checks = dict(checks or {})
        self._timeout_seconds = timeout_seconds
        self._ready: bool | None = None  # at the last report

    def add(self, name: str, check: Check) -> None:
        """Add a check."""
        self._checks[name] = check

    async def report(self) -> dict[str, object]:
        """Run all checks concurrently and report on each, also on those that are added meanwhile."""
        results: dict[str, tuple[bool, str]] = {}
        while added := [name for name in self._checks if name not in results]:
            found = await asyncio.gather(*(self._run(self._checks[name]) for name in added))
            results |= zip(added, found, strict=True)
        checks = {name: {"ok": ok, "detail": detail} for name, (ok, detail) in results.items()}
        self._ready = ready = all(ok for ok, _ in results.values())
        return {"status": "ready" if ready else "unready", "checks": checks}

    @asynccontextmanager
    async def watched(self, seconds: float = WATCH_SECONDS) -> AsyncIterator[None]:
        """Tell the metrics of this process whether it is ready, while the block runs."""

        async def look() -> NoReturn:
            while True:
                await self.report()
                await asyncio.sleep(seconds)

        end = health_metrics.ready.watch(lambda: {} if self._ready is None else {(): float(self._ready)})
        looking = BackgroundTask(look, name="readiness")
        try:
            yield
        finally:
            end()
            await looking.close()

    async def _run(self, check: Check) -> tuple[bool, str]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                detail = await check()
        except TimeoutError:
            return False, f"no answer within {self._timeout_seconds:g} s"
        except Exception as error:  # noqa: BLE001 - any error is reported as the reason
            return False, str(error) or repr(error)
        return True, detail if isinstance(detail, str) else ""


def not_stopping(stop: asyncio.Event) -> Check:
    """Return a check that fails once the stop event is set: balancers are to send nothing more."""

    async def check() -> None:
        if stop.is_set():
            raise RuntimeError("is stopping")

    return check


def routes(health: Health) -> list[BaseRoute]:
    """Return the health routes of an ASGI app."""

    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> JSONResponse:
        report = await health.report()
        return JSONResponse(report, status_code=200 if report["status"] == "ready" else 503)

    return [Route("/health/live", live), Route("/health/ready", ready)]


async def serve_health(health: Health, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve health and metrics until stopped, in a process without another HTTP server."""
    app = Starlette(routes=[*routes(health), *scrape.routes()])
    async with health.watched():
        await serve_http(app, host, port, stop, lifespan=False)
