"""The flows of these journeys, published to the stack of all journeys."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
from tests.journeys.json_api import SessionApi
from tests.journeys.turns.conversation import Conversation, conversation
from tests.journeys.turns.flows import STRATEGIES, interrupted_flow

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus
from antiphon.cli.embedded import EmbeddedStack

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "take-turns.md"


class Publish(Protocol):
    """Publish the flow for a strategy and what interrupts it; return its id."""

    def __call__(self, strategy: str, interruption: str = "any", /) -> Awaitable[str]: ...


TRIES = 3  # on a busy machine a word may arrive with gaps, and is not understood
Journey = Callable[[Conversation], Awaitable[str]]  # returns what happened, in the words of the page
Journeys = Callable[[Journey, str], Awaitable[dict[str, str]]]
Documented = Callable[[str], dict[str, str]]


@pytest.fixture
def publish(stack: EmbeddedStack, tmp_path: Path) -> Publish:
    """Publish the flow for a strategy and what interrupts it; return its id."""

    async def publish(strategy: str, interruption: str = "any") -> str:
        folder = tmp_path / f"{strategy}-{interruption}"
        folder.mkdir()
        (folder / "flow.yaml").write_text(interrupted_flow(strategy, interruption))
        bus = await Bus.connect(stack.status().addresses.nats_url, name="test")
        try:
            [flow] = await publish_flows(bus, folder, tenant="default", now=lambda: datetime.now(UTC))
        finally:
            await bus.close()
        return flow.flow_id

    return publish


@pytest.fixture
def of_each(api: SessionApi, publish: Publish) -> Journeys:
    """Hold a conversation with each strategy, all at the same time; return what happened in each."""

    async def hold(journey: Journey, strategy: str, interruption: str) -> str:
        flow = await publish(strategy, interruption)
        for tries_left in reversed(range(TRIES)):
            async with conversation(api, flow) as call:
                call.by_hand, call.must_understand = strategy == "manual", True
                try:
                    return await journey(call)
                except AssertionError as error:
                    error.add_note(f"with {strategy}: {call.on_record()}")
                    if not (call.not_understood and tries_left):
                        raise
        raise AssertionError

    async def of_each(journey: Journey, interruption: str) -> dict[str, str]:
        async with asyncio.TaskGroup() as group:
            held = {
                strategy: group.create_task(hold(journey, strategy, interruption), name=strategy)
                for strategy in STRATEGIES
            }
        return {strategy: conversation.result() for strategy, conversation in held.items()}

    return of_each


@pytest.fixture
def documented() -> Documented:
    """Return what the page for users says of a pattern, by strategy."""
    section = PAGE.read_text().partition("\n## What happens when\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert head[1:] == [f"`{strategy}`" for strategy in STRATEGIES]
    by_pattern = {pattern: dict(zip(STRATEGIES, cells, strict=True)) for pattern, *cells in rows}
    return by_pattern.__getitem__
