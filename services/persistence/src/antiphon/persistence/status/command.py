"""The command `status`: reads everything that it shows, with bounded work, also when NATS cannot be asked."""

from antiphon.chassis.database import Database, DatabaseRefused, DatabaseUnavailable
from antiphon.chassis.nats_access import DEFAULT_NATS_URL
from antiphon.persistence.errors import POSTGRES_ERRORS
from antiphon.persistence.migrations import SchemaMismatch, check, head
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.settings import StatusSettings
from antiphon.persistence.status.document import Status, problems_of
from antiphon.persistence.status.ingest import (
    CONNECT_SECONDS,
    NoStream,
    OnStream,
    read_checkpoints,
    read_dead_letters,
    read_partitions,
    read_stream,
)
from antiphon.persistence.status.views import read_builds, read_views
from antiphon.persistence.streams.status import READ_GAPS, Gap

STOPPED: tuple[type[Exception], ...] = (DatabaseUnavailable, *POSTGRES_ERRORS)


async def read_status(settings: StatusSettings) -> Status:
    """Read the status; without NATS, only the part in Postgres.

    Exits with 1 when Postgres does not answer or has not the schema that this code needs.
    """
    try:
        database = await Database.connect(
            settings.postgres_dsn,
            name="persistence status",
            max_size=1,
            connect_timeout_seconds=CONNECT_SECONDS,
            statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
        )
    except (DatabaseRefused, DatabaseUnavailable) as error:
        raise SystemExit(str(error)) from error
    try:
        async with database.transaction() as connection:
            revision = await check(connection)
            checkpoints = await read_checkpoints(connection)
        # No transaction waits for NATS.
        on_stream = await read_stream(settings.nats, checkpoints)
        status = await _read(database, revision, on_stream)
        if status.nats_error is not None and "nats_url" not in settings.model_fields_set:
            status.nats_error += f". ANTIPHON_NATS_URL is not set: {DEFAULT_NATS_URL} was tried"
    except SchemaMismatch as error:
        raise SystemExit(str(error)) from error
    except STOPPED as error:
        raise SystemExit(f"Postgres does not answer what status asks: {error!r}") from error
    finally:
        await database.close()
    status.problems = problems_of(status)
    return status


async def _read(database: Database, revision: str, found: OnStream | NoStream) -> Status:
    on_stream = found if isinstance(found, OnStream) else None
    builds = await read_builds(database, [projection.name for projection in PROJECTIONS])
    async with database.transaction() as connection:
        partitions = await read_partitions(connection, on_stream)
        return Status(
            schema_revision=revision,
            schema_needed=head(),
            nats=on_stream is not None,
            nats_error=found.reason if isinstance(found, NoStream) else None,
            stream=None if on_stream is None else on_stream.stream,
            partitions=partitions,
            projections=await read_views(connection, PROJECTIONS, builds),
            dead_letters=await read_dead_letters(connection, partitions),
            gaps=[Gap(*row) for row in await connection.fetch(READ_GAPS)],
        )
