"""Reading a session from the log."""

from typing import Any

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.log import Log
from antiphon.cli.stack.postgres import Postgres
from antiphon.contracts.registry import open_event

SESSION = "ses_00000000000000000000000001"


async def test_a_page_starts_after_a_sequence_and_has_a_limit(
    database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION, 10)
    log = Log(database, bus)

    page = await log.read_session("default", SESSION, after=4, limit=3)

    assert [envelope.sequence for envelope in page] == [5, 6, 7]
    assert open_event(page[0]).TYPE == "command.requested"


async def test_another_tenant_reads_nothing(database: Database, bus: Bus, writer: Any) -> None:
    await writer.commit(SESSION, 2)

    assert await Log(database, bus).read_session("stranger", SESSION) == []


async def test_reading_during_a_postgres_outage_raises(
    postgres_server: Postgres, database: Database, bus: Bus, writer: Any
) -> None:
    await writer.commit(SESSION)
    postgres_server.stop()

    with pytest.raises(DatabaseUnavailable):
        await Log(database, bus).read_session("default", SESSION)
