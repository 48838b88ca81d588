"""The client publishes, reads, compares and tries flows, on a real session-api."""

from collections.abc import AsyncIterator

import pytest
from tests.session_api.conftest import Put, Running
from tests.session_api.fake_persistence import FakePersistence
from tests.session_api.test_flow_routes import EDITOR, checker, source

from antiphon.client import AsyncAntiphon, Conflict, InvalidRequest

__all__ = ["checker"]


@pytest.fixture
async def client(running: Running, put_key: Put) -> AsyncIterator[AsyncAntiphon]:
    await put_key("editor", scopes=EDITOR)
    async with AsyncAntiphon(running.url, "editor", timeout=90) as client:
        yield client


@pytest.mark.usefixtures("checker")
async def test_flows(client: AsyncAntiphon, persistence: FakePersistence) -> None:
    first = await client.flows.publish("desk", source(), create_only=True)
    second = await client.flows.publish("desk", source("desk", "# 2"), replaces=1)
    with pytest.raises(Conflict) as lost:
        await client.flows.publish("desk", source("desk", "# mine"), replaces=1)
    with pytest.raises(InvalidRequest) as wrong:
        await client.flows.publish("desk", source("desk", "broken"))

    assert (first.revision, second.revision, second.greeting) == (1, 2, "Good day.")
    assert lost.value.problem.members["newest_revision"] == 2
    assert wrong.value.problem.members["problems"][0]["line"] == 3
    assert (await client.flows.get("desk")).source == source("desk", "# 2")
    assert (await client.flows.get("desk", revision=1)).source == source()
    assert [one.revision async for one in client.flows.revisions("desk", page_size=1)] == [2, 1]
    difference = await client.flows.diff("desk")
    assert (difference.from_, difference.to, "+# 2" in difference.diff) == (1, 2, True)

    tried = await client.flows.try_out("desk", source=source("desk", "# draft"))
    await persistence.commit(tried.session_id)
    assert tried.token
    assert [one async for one in client.sessions.list()] == []
    assert [one.session_id async for one in client.sessions.list(test=True)] == [tried.session_id]
