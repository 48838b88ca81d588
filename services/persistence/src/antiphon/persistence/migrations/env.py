"""Run the migrations over asyncpg, one process at a time, each in a transaction of its own."""

import asyncio

import asyncpg
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from antiphon.chassis.postgres import connect
from antiphon.persistence.migrations import LOCK_TIMEOUT
from antiphon.persistence.migrations.compatibility import UTF8_NEEDED, SchemaMismatch, mismatch
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.rights import secure
from antiphon.persistence.schema import metadata

MIGRATION_LOCK = 0x616E7469  # "anti" in ASCII: replicas that start together migrate one after the other
POLL_SECONDS = 0.2


def _migrate(connection: Connection) -> None:
    def declare(ctx: MigrationContext, step: MigrationInfo, *_: object, **__: object) -> None:
        # in the transaction of the migration
        _declare_compatibility(connection, context.script, step.up_revision_id)

    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        transaction_per_migration=True,
        on_version_apply=declare,
    )
    current = context.get_context().get_current_revision()
    script = context.script
    known = {revision.revision for revision in script.walk_revisions()}
    encoding = connection.exec_driver_sql("show server_encoding").scalar()
    if current is None and encoding != "UTF8":
        raise SchemaMismatch(f"The database has the encoding {encoding}: {UTF8_NEEDED}")
    if current is not None and current not in known:  # a newer version has migrated
        declared = connection.exec_driver_sql("select compatible_from from schema_compatibility").scalar()
        if problem := mismatch(current, declared, known, str(script.get_current_head())):
            raise SchemaMismatch(problem)
    else:
        with context.begin_transaction():
            context.run_migrations()
        current = context.get_context().get_current_revision()
        _declare_compatibility(connection, script, current)  # a killed run of an earlier version did not
        _create_views(connection)
        _give_rights(connection)
        connection.commit()
    context.config.attributes["revision"] = current


def _declare_compatibility(connection: Connection, script: ScriptDirectory, revision: str | None) -> None:
    """Store the oldest revision whose code can run with this schema, as its migration declares it."""
    if not connection.exec_driver_sql("select to_regclass('schema_compatibility')").scalar():
        return
    module = script.get_revision(str(revision)).module
    connection.exec_driver_sql("delete from schema_compatibility")
    connection.execute(
        text("insert into schema_compatibility values (:compatible_from)"),
        {"compatible_from": getattr(module, "compatible_from", revision)},
    )


def _create_views(connection: Connection) -> None:
    """Create the views of an empty log; those of another one are built from it, by `run`."""
    if not connection.exec_driver_sql("select to_regclass('projections')").scalar():
        return  # upgraded to an earlier revision
    if connection.exec_driver_sql("select exists (select from event_log)").scalar():
        return
    known = set(connection.exec_driver_sql("select name from projections").scalars())
    for projection in PROJECTIONS:
        if projection.name in known:
            continue
        for table in projection.tables:
            table.table.create(connection, checkfirst=True)
        connection.execute(
            text("insert into projections (name, version, tables) values (:name, :version, :tables)"),
            {
                "name": projection.name,
                "version": projection.version,
                "tables": [table.name for table in projection.tables],
            },
        )


def _give_rights(connection: Connection) -> None:
    """Give the group roles their rights on all tables, new ones too."""
    if connection.exec_driver_sql(secure.HAS_ROLES).scalar():
        access = secure.decode(str(connection.exec_driver_sql(secure.STATE).scalar()))
        for statement in secure.all_statements(access):
            connection.exec_driver_sql(statement)


async def _connect_and_lock(dsn: str, statement_seconds: float) -> asyncpg.Connection:
    connection = await connect(
        dsn,
        name="persistence migrate",
        connect_seconds=10,
        statement_seconds=statement_seconds,
        lock_timeout=LOCK_TIMEOUT,
    )
    # Of the session, as a migration may commit several times. It is not waited for in a statement, whose
    # snapshot would hold up the concurrent creation of an index, and that would hold the lock.
    waited = 0.0
    while not await connection.fetchval("select pg_try_advisory_lock($1)", MIGRATION_LOCK):
        if waited >= statement_seconds:
            connection.terminate()
            raise TimeoutError(f"another process has been migrating the database for {waited:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
        waited += POLL_SECONDS
    return connection


async def _connect_and_migrate(dsn: str, statement_seconds: float) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: _connect_and_lock(dsn, statement_seconds),
        poolclass=NullPool,
    )
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


asyncio.run(
    _connect_and_migrate(
        context.config.attributes["dsn"], context.config.attributes["statement_timeout_seconds"]
    )
)
