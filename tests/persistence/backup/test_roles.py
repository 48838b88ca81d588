"""A backup has no roles: in a new cluster it is restored without them, and says how to make them again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from antiphon.persistence.backup.restore import ROLES_AGAIN

if TYPE_CHECKING:
    from tests.persistence.backup.conftest import Site
    from tests.persistence.conftest import Eventually, NewSession

pytestmark = pytest.mark.slow

PASSWORD = "of-a-direct-reader"


async def test_a_direct_reader_reads_again_when_its_role_was_made_again(
    site: "Site",
    new_session: "NewSession",
    eventually: "Eventually",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTIPHON_ROLE_PASSWORDS", json.dumps({"bi": PASSWORD}))
    make = ("roles", "--tenant", "acme", "--login", "bi", "--apply")
    await site.succeeds(*make)
    calls = [new_session(name, tenant).whole_call() for name, tenant in (("a", "acme"), ("b", "globex"))]
    run = await site.persistence()
    for call in calls:
        await site.publish(call)
        await site.until_committed(call, eventually)
    await run.end()
    await site.succeeds("backup", str(tmp_path / "backup"))
    site.lose_postgres()
    site.lose_nats()

    said = await site.succeeds("restore", str(tmp_path / "backup"))

    assert ROLES_AGAIN in said
    await site.succeeds(*make)
    address = site.postgres.dsn.rpartition("@")[2]
    connection = await asyncpg.connect(f"postgresql://bi:{PASSWORD}@{address}")
    run = await site.persistence()

    async def reads() -> bool:
        return bool(await connection.fetchval("select array_agg(distinct tenant) from sessions") == ["acme"])

    await eventually(reads)
    await connection.close()
    await run.end()
