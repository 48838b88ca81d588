"""The check of flows for others: every problem with its line, over the bus, bounded in size and time."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from antiphon.agent_worker.flow_check import MAX_STUCK, FlowChecks, check_source
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus, BusUnavailable, NoResponder
from antiphon.cli.stack.nats import NatsServer
from antiphon.contracts.flows import (
    FLOW_CHECK,
    MAX_PROBLEMS,
    FlowCheckReply,
    FlowCheckRequest,
    FlowSummary,
    decode_check_reply,
)
from antiphon.recorder.outbox import BusLink

FLOW = (Path(__file__).parents[2] / "flows" / "booking.yaml").read_text()
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
VARIABLES = """
variables:
  metadata.order: {required: true}
  metadata.customer.name: {required: true}
  metadata.city: Berlin
"""


async def until_served(bus: Bus) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await bus.request(FLOW_CHECK, msgspec.json.encode(FlowCheckRequest(source="")))
            except NoResponder:
                await asyncio.sleep(0.02)
            except BusUnavailable:
                return
            else:
                return


@pytest.fixture
async def link(nats_server: NatsServer) -> AsyncIterator[BusLink]:
    link = BusLink(partial(Bus.connect, nats_server.url))
    yield link
    await link.close()


async def ask(bus: Bus, source: str, *, timeout_seconds: float = 60) -> FlowCheckReply:
    request = msgspec.json.encode(FlowCheckRequest(source=source))
    return decode_check_reply(await bus.request(FLOW_CHECK, request, timeout_seconds=timeout_seconds))


async def test_a_worker_answers_on_the_bus(bus: Bus, link: BusLink) -> None:
    serving = BackgroundTask(partial(FlowChecks().serve, link), name="flow checks")
    await until_served(bus)

    good = await ask(bus, FLOW)
    bad = await ask(bus, FLOW.replace("entry: host", "entry: nobody"))
    await serving.close()

    assert good.problems == []
    assert good.summary is not None
    assert (good.summary.flow_id, good.summary.language) == ("booking", "en")
    assert good.summary.greeting.startswith("Good evening")
    assert bad.summary is None
    line = next(n for n, text in enumerate(FLOW.splitlines(), start=1) if text.startswith("entry:"))
    assert [(problem.line, problem.place) for problem in bad.problems] == [(line, "entry")]
    with pytest.raises(NoResponder):
        await ask(bus, FLOW)


def test_the_summary_has_the_metadata_that_a_session_needs() -> None:
    text = FLOW + VARIABLES
    greeting = "Good evening, {metadata.customer.name}."
    text = text.replace(
        next(line for line in FLOW.splitlines() if "greeting:" in line).strip(), f'greeting: "{greeting}"', 1
    )
    summary = check_source(FlowCheckRequest(source=text)).summary

    assert summary is not None
    assert summary.requires == ["metadata.order", "metadata.customer.name"]
    assert summary.greeting == "", "it is another one for each session"


def test_a_tool_that_cannot_be_imported_is_a_problem() -> None:
    text = FLOW.replace("antiphon.agent_worker.tools.booking:book_table", "no.such.module:book_table")
    assert text != FLOW
    reply = check_source(FlowCheckRequest(source=text))

    assert any("no.such" in problem.reason for problem in reply.problems)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "\0",
        "a: [",
        BOMB,
        "[" * 100_000,
        "- " * 50_000,
        "a: !!python/object:os.system x",
        "x" * 600_000,
        "\ud800",
    ],
    ids=["empty", "nul", "cut", "bomb", "deep", "deep-block", "tag", "large", "surrogate"],
)
def test_what_is_no_flow_is_a_problem(source: str) -> None:
    reply = check_source(FlowCheckRequest(source=source))

    assert reply.problems
    assert reply.summary is None
    assert all(problem.line >= 1 and problem.reason for problem in reply.problems)


def test_the_list_of_problems_is_bounded() -> None:
    source = FLOW + "".join(f"unknown_{n}: {'x' * 2000}\n" for n in range(150))
    reply = check_source(FlowCheckRequest(source=source))

    assert len(reply.problems) == MAX_PROBLEMS
    assert reply.more == 50
    assert len(msgspec.json.encode(reply)) < 256 * 1024


async def test_a_check_that_hangs_does_not_stop_the_next_ones() -> None:
    free = threading.Event()

    def check(request: FlowCheckRequest) -> FlowCheckReply:
        if request.source == "hang":
            free.wait(60)
        summary = FlowSummary(flow_id="a", name="", description="", language="en")
        return FlowCheckReply(summary=summary)

    checks = FlowChecks(check)
    hanging, good = (msgspec.json.encode(FlowCheckRequest(source=source)) for source in ("hang", "good"))
    for _ in range(MAX_STUCK):
        assert decode_check_reply(await checks.answer(good)).summary is not None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(checks.answer(hanging), 0.05)

    with pytest.raises(Exception, match="restart the worker"):
        await checks.answer(good)
    free.set()
    async with asyncio.timeout(60):
        while checks._running:  # noqa: ASYNC110 - threads
            await asyncio.sleep(0.01)
    assert decode_check_reply(await checks.answer(good)).summary is not None


async def test_a_module_that_exits_is_an_error_and_ends_nothing() -> None:
    def check(request: FlowCheckRequest) -> FlowCheckReply:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await FlowChecks(check).answer(msgspec.json.encode(FlowCheckRequest(source="")))
