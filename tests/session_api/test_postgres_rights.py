"""The role of this service reads all that the service reads, and a role that lacks something is named."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.session_api.conftest import Start
from tests.session_api.fake_persistence import FakePersistence

from antiphon.chassis.database import Database
from antiphon.chassis.health import Health
from antiphon.contracts.events.session import SessionRequested
from antiphon.contracts.events.turn import TurnSaved
from antiphon.persistence.access.command import plan_of, roles
from antiphon.persistence.rights.declaration import READ_BY_READER, READER, RIGHTS
from antiphon.session_api.postgres_rights import NEEDED, PostgresRights, RightsMissing

LOGIN, PASSWORD = "api_of_a_test", "secret-of-a-test"


@pytest.fixture
async def reader(database: Database, postgres_dsn: str, tmp_path: Path) -> str:
    """The DSN of a login with the access of this service."""
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({LOGIN: PASSWORD}))
    said: list[str] = []
    plan = plan_of([f"{LOGIN}=reader"], None, [], passwords, None)
    await roles(postgres_dsn, plan, apply=True, say=said.append)
    assert PASSWORD not in str(said)
    address = urlsplit(postgres_dsn)
    return f"postgresql://{LOGIN}:{PASSWORD}@{address.hostname}:{address.port}{address.path}"


def test_the_role_has_what_this_service_needs_and_no_more() -> None:
    assert {*RIGHTS[READER], *READ_BY_READER} == set(NEEDED)
    assert set(RIGHTS[READER].values()) == {"select"}


async def test_every_read_of_the_service_works_with_its_role(
    reader: str, start: Start, persistence: FakePersistence
) -> None:
    session_id = "ses_00000000000000000000000001"
    await persistence.commit(
        session_id,
        SessionRequested(flow_id="booking", flow_revision=1, user_id="ada", room=session_id),
        TurnSaved(turn=1, agent_id="host", user_text="a table", assistant_text="Gladly.", metrics={}),
    )
    own = await Database.connect(reader)
    assert await PostgresRights(own).check() == ""
    running = await start(database=own)
    headers = {"Authorization": "Bearer writer"}
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30, verify=False) as client:
        for path in (
            "/v1/sessions",
            f"/v1/sessions/{session_id}",
            f"/v1/sessions/{session_id}?at=1",
            f"/v1/sessions/{session_id}/turns",
            f"/v1/sessions/{session_id}/turns?at=2",
            f"/v1/sessions/{session_id}/events",
            f"/v1/sessions/{session_id}/timeline",
            "/v1/analytics/daily",
            "/v1/analytics/usage",
            "/v1/events/export",
        ):
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text)
    await own.close()


async def test_a_right_that_is_missing_makes_the_replica_unready_and_is_named(
    reader: str, database: Database
) -> None:
    own = await Database.connect(reader)
    rights = PostgresRights(own)
    await database.pool.execute("revoke select on event_log from antiphon_reader")
    await database.pool.execute("drop policy antiphon_all on turns")
    report = await Health({"postgres rights": rights.check}).report()

    assert report["status"] == "unready"
    lacks = r"lacks rows on turns, select on event_log: .* api_of_a_test=reader"
    with pytest.raises(RightsMissing, match=lacks):
        await rights.check()

    await database.pool.execute("grant select on event_log to antiphon_reader")
    await database.pool.execute("create policy antiphon_all on turns to antiphon_reader using (true)")
    assert await rights.check() == ""
    await own.close()


async def test_nothing_is_known_without_postgres() -> None:
    database = await Database.connect("postgresql://nobody@127.0.0.1:1/none", min_size=0)

    assert "unavailable" in await PostgresRights(database).check()
    await database.close()
