from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.recorder.recorded_session import RecordedSession, recorded_session

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.nats import NatsServer


@pytest.fixture
async def recorded(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RecordedSession]:
    """A real AgentSession in this process; its record goes through a real journal to a real broker."""
    async with recorded_session(bus, nats_server.url, tmp_path) as session:
        yield session
