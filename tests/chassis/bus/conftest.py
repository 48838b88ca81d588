"""What the tests of typed consumers share."""

from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import pytest

from antiphon.chassis.bus import ApiError, Bus


@pytest.fixture
async def name(bus: Bus) -> AsyncIterator[str]:
    """The name of a consumer; its dead letters are deleted afterwards."""
    name = f"test-{uuid4().hex[:8]}"
    yield name
    with suppress(ApiError):
        await bus.connection.api(f"STREAM.DELETE.DEAD_{name}")
