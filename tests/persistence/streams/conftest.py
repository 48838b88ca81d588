"""A broker without copies of an interrupted run, and a session."""

from typing import TYPE_CHECKING

import pytest

from antiphon.chassis.bus import Bus, replace

if TYPE_CHECKING:
    from tests.persistence.conftest import NewSession, SampleSession


@pytest.fixture(autouse=True)
async def no_copies(bus: Bus) -> None:
    await replace.delete(bus.connection, replace.UNREAD)


@pytest.fixture
def session(new_session: "NewSession") -> "SampleSession":
    return new_session("recreated")
