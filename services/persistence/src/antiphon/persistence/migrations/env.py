"""Run the migrations over asyncpg, one process at a time."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from antiphon.persistence.schema import metadata

MIGRATION_LOCK = 0x616E7469  # "anti" in ASCII: replicas that start together migrate one after the other


def _migrate(connection: Connection) -> None:
    connection.exec_driver_sql("set lock_timeout = '30s'")
    connection.exec_driver_sql(f"select pg_advisory_xact_lock({MIGRATION_LOCK})")
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    context.run_migrations()


async def _connect_and_migrate(dsn: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=10),
        poolclass=NullPool,
    )
    async with engine.begin() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


asyncio.run(_connect_and_migrate(context.config.attributes["dsn"]))
