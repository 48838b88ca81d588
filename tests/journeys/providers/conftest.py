"""The flows of these journeys, published to the stack of all journeys."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from antiphon.agent_worker.flow_store import publish_flows
from antiphon.chassis.bus import Bus
from antiphon.cli.embedded import EmbeddedStack

Publish = Callable[[str], Awaitable[str]]


@pytest.fixture
def publish(stack: EmbeddedStack, tmp_path: Path) -> Publish:
    """Publish a flow to the stack; return its id."""

    async def publish(source: str) -> str:
        (tmp_path / "flow.yaml").write_text(source)
        bus = await Bus.connect(stack.status().addresses.nats_url, name="test")
        try:
            [flow] = await publish_flows(bus, tmp_path, tenant="default", now=lambda: datetime.now(UTC))
        finally:
            await bus.close()
        return flow.flow_id

    return publish
