"""A replica of a new version takes no requests before the views have the columns that it reads."""

import socket
from typing import Any

import pytest

from antiphon.chassis.database import Database
from antiphon.chassis.health import Health
from antiphon.cli.stack.ports import free_port
from antiphon.session_api.view_columns import ViewColumns, ViewsBehind


async def test_views_of_this_version_are_complete(database: Database) -> None:
    assert await ViewColumns(database).check() == ""


@pytest.mark.parametrize(
    "statement", ["alter table turns drop column language", "alter table turns rename to turns_of_before"]
)
async def test_a_view_that_lacks_a_column_is_named_until_it_is_built(
    database: Database, statement: str
) -> None:
    undo = {
        "alter table turns drop column language": "alter table turns add language text",
        "alter table turns rename to turns_of_before": "alter table turns_of_before rename to turns",
    }
    views = ViewColumns(database)
    await database.pool.execute(statement)
    with pytest.raises(ViewsBehind, match=r"^turns not built in this version: .* start persistence"):
        await views.check()

    await database.pool.execute(undo[statement])
    assert await views.check() == ""

    # and a view that is away later, as after a restore, stops no creates
    await database.pool.execute("drop table turns")
    assert await views.check() == ""


async def test_nothing_is_known_without_postgres() -> None:
    assert "Postgres is unavailable" in await _detail(free_port())


async def test_a_postgres_that_does_not_answer_makes_no_replica_unready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connected by the kernel, and never accepted
        assert "Postgres is unavailable" in await _detail(silent.getsockname()[1])


async def _detail(port: int) -> str:
    address = f"postgresql://nobody@127.0.0.1:{port}/none"
    database = await Database.connect(address, min_size=0, acquire_timeout_seconds=60)
    try:
        report: Any = await Health({"views": ViewColumns(database).check}).report()
        assert report["status"] == "ready", report
        detail: str = report["checks"]["views"]["detail"]
        return detail
    finally:
        await database.close()
