"""Tools: a call with the checks and limits of a flow, against the function or the request itself."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
from aiohttp import web
from livekit.agents import function_tool
from livekit.agents.llm.utils import prepare_function_arguments

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow
from antiphon.agent_worker.flow.bound import bind
from antiphon.agent_worker.tools.session_tools import SessionTools

from .report import Report, Result, Servers

ROUNDS = 500
HTTP_ROUNDS = 250

Act = Callable[[], Awaitable[object]]


@function_tool
async def order(number: int) -> dict[str, Any]:
    """Look an order up."""
    return {"number": number, "state": "sent"}


@function_tool  # type: ignore[type-var]
def blocking(number: int) -> dict[str, Any]:
    """Look an order up in a thread."""
    return {"number": number, "state": "sent"}


async def run(servers: Servers, report: Report) -> None:
    """Measure the three ways to call code that does nothing."""
    del servers
    report.step("start a server on loopback", seconds=30)
    runner, url = await _serve()
    tools = {
        "order": {"python": f"{__name__}:order"},
        "blocking": {"python": f"{__name__}:blocking"},
        "request": {
            "http": {"url": f"{url}/orders/{{number}}", "private": True},
            "description": "Look an order up.",
            "arguments": {"number": {"type": "integer"}},
        },
    }
    agents = {"host": {"instructions": "Help.", "tools": list(tools)}}
    flow = Flow.model_validate(
        {"id": "f", "name": "F", "description": "A flow.", "tools": tools, "agents": agents}
    )
    async with (
        SessionTools(bind(flow, CATALOG)) as opened,
        httpx2.AsyncClient(trust_env=False) as client,
    ):
        built: dict[str, Any] = {name: opened.build(name) for name in tools}
        context = SimpleNamespace(function_call=SimpleNamespace(extra={}))

        def ours(name: str) -> Act:
            return lambda: built[name]({"number": 7}, context)

        async def request() -> object:
            return (await client.get(f"{url}/orders/7")).json()

        async def by_livekit() -> object:
            positional, named = prepare_function_arguments(fnc=order, json_arguments={"number": 7})
            return await order(*positional, **named)

        async def in_thread_by_livekit() -> object:
            positional, named = prepare_function_arguments(fnc=blocking, json_arguments={"number": 7})
            return await asyncio.to_thread(lambda: blocking(*positional, **named))

        for name, label, baseline_name, baseline, rounds in (
            ("order", "an async function", "the function itself", lambda: order(7), ROUNDS),
            ("order", "an async function", "LiveKit's checks and the function", by_livekit, ROUNDS),
            (
                "blocking",
                "a function in a thread",
                "LiveKit's checks and asyncio.to_thread",
                in_thread_by_livekit,
                ROUNDS,
            ),
            ("request", "an HTTP request on loopback", "httpx2 itself", request, HTTP_ROUNDS),
        ):
            report.step(f"{rounds} calls of {label}", seconds=120)
            value, plain = await _compare(ours(name), baseline, rounds)
            report.row(
                Result(
                    name=f"tools: {label}, p50",
                    value=value,
                    unit="µs",
                    baseline_name=baseline_name,
                    baseline=plain,
                )
            )
    await runner.cleanup()


async def _serve() -> tuple[web.AppRunner, str]:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"number": 7, "state": "sent"})

    app = web.Application()
    app.router.add_get("/orders/{number}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


async def _compare(ours: Act, baseline: Act, rounds: int) -> tuple[float, float]:
    """Return the medians of both in µs, called in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for act, each in zip((ours, baseline), times, strict=True):
            began = time.perf_counter_ns()
            await act()
            each.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(times[0]), statistics.median(times[1])
