"""A Postgres that hangs is a database that is unavailable, before a client gives up."""

import asyncio
import time

import psutil
import pytest
from tests.session_api.conftest import settings_for

from antiphon.chassis.database import DatabaseUnavailable
from antiphon.session_api.main import connect_database
from antiphon.session_api.sessions.queries import Views

NOBODY = "ses_00000000000000000000000000"
LONGEST_SECONDS = 25.0  # of a test on a busy machine: it takes seven


@pytest.mark.timeout(120)
async def test_reads_of_a_hanging_postgres_end_in_seconds(postgres_dsn: str) -> None:
    database = await connect_database(settings_for("ws://127.0.0.1:1", postgres_dsn=postgres_dsn))
    views = Views(database)
    backend = psutil.Process(await database.pool.fetchval("select pg_backend_pid()"))
    postmaster = backend.parent()
    assert postmaster is not None
    hanging = (backend, postmaster)
    try:
        for process in hanging:
            process.suspend()
        started = time.monotonic()
        for _ in range(2):  # on the open connection, then without one
            async with asyncio.timeout(4 * LONGEST_SECONDS):
                with pytest.raises(DatabaseUnavailable):
                    await views.session("default", NOBODY)
        assert time.monotonic() - started < LONGEST_SECONDS
    finally:
        for process in hanging:
            process.resume()

    async with asyncio.timeout(60):
        assert await views.session("default", NOBODY) is None
        await database.close()
