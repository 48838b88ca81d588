from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.agent_worker.testing import RecordedSession, recorded_session


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[RecordedSession]:
    """A real AgentSession in this process; what it records goes through a real journal."""
    async with recorded_session(tmp_path) as session:
        yield session
