"""Start in any order: wait for Postgres and NATS, and check that schema and streams match this version."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from antiphon.chassis.bus import (
    ApiError,
    Bus,
    BusUnavailable,
    DefinitionMismatch,
    StorageTooSmall,
    StreamMissing,
    replace,
)
from antiphon.chassis.database import Database, DatabaseUnavailable
from antiphon.chassis.deployment import InvalidDeployment, deployment_of
from antiphon.chassis.nats_access import NatsAccess
from antiphon.chassis.retry import retrying
from antiphon.chassis.settings import PostgresSettings
from antiphon.chassis.shutdown import wait_or_stop
from antiphon.contracts.streams import SESSIONS
from antiphon.persistence import migrations
from antiphon.persistence.access.check import RightsMissing, check_rights
from antiphon.persistence.ingest.stream_check import RECREATE
from antiphon.persistence.readiness import ReadinessCheck

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 2.0  # per attempt

T = TypeVar("T")


class Startup:
    """The connections that the process needs; its readiness check names those that are missing."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.readiness = ReadinessCheck()
        for name in ("postgres", "schema", "nats", "streams"):
            self.readiness.starting(name)
        self._stop = stop

    async def database(self, settings: PostgresSettings, purpose: str, *, connections: int) -> Database:
        """Connect to Postgres, which shows the purpose of each connection.

        Raises ShuttingDown.
        """
        return await self._retry(
            "postgres",
            lambda: Database.connect(
                settings.postgres_dsn,
                name=f"persistence {purpose}",
                max_size=connections,
                connect_timeout_seconds=CONNECT_SECONDS,
                acquire_timeout_seconds=settings.postgres_pool_timeout_seconds,
                statement_timeout_seconds=settings.postgres_statement_timeout_seconds,
            ),
        )

    async def bus(
        self, access: NatsAccess, database: Database, *, replicas: int | None, max_bytes: int | None
    ) -> Bus:
        """Connect to NATS and create what is missing, but no stream that the log was read from.

        Raises ShuttingDown. Exits with 1 when a stream differs from its definition.
        """
        fresh = await self._retry("postgres", lambda: _nothing_read(database))
        bus = await self._retry(
            "nats", lambda: Bus.connect(access, name="persistence", connect_timeout_seconds=CONNECT_SECONDS)
        )
        try:
            await self._retry("streams", lambda: _ensure(bus, fresh, replicas, max_bytes))
        except StreamMissing as error:
            # Everything else works without it; each partition reports it until an operator has acted.
            log.warning("startup.stream_missing", error=str(error), action=RECREATE)
            self.readiness.healthy("streams")
        except DefinitionMismatch as error:
            raise SystemExit(f"The streams of the broker do not match the contract: {error}") from error
        except StorageTooSmall as error:
            raise SystemExit(str(error)) from error
        except ApiError as error:
            raise SystemExit(
                f"The broker refuses the streams of the contract: {error}. "
                "It may have fewer servers than ANTIPHON_NATS_REPLICAS."
            ) from error
        return bus

    async def schema(self, database: Database, *, ingest: bool = False, views: bool = False) -> None:
        """Check the revision of the schema, and the rights of the role for what the process does.

        Raises ShuttingDown. Exits with 1 when this version cannot run with it, or a right is missing.
        """
        try:
            revision = await self._retry("schema", lambda: _check_schema(database, ingest, views))
        except (migrations.SchemaMismatch, RightsMissing) as error:
            raise SystemExit(str(error)) from error
        if revision != (needed := migrations.head()):
            log.warning("schema.newer", revision=revision, needed=needed)

    async def _retry(self, name: str, action: Callable[[], Awaitable[T]]) -> T:
        async def attempt() -> T:
            return await wait_or_stop(action(), self._stop)

        policy = retrying(
            DatabaseUnavailable,
            BusUnavailable,
            on_retry=lambda error, _: self.readiness.unhealthy(name, str(error)),
            stop=self._stop,
        )
        result: T = await policy(attempt)
        self.readiness.healthy(name)
        return result


async def _nothing_read(database: Database) -> bool:
    query = "select exists (select from checkpoints where position > 0 or stopped is not null)"
    async with database.transaction() as connection:
        return not await connection.fetchval(query)


async def _ensure(bus: Bus, create_streams: bool, replicas: int | None, max_bytes: int | None) -> None:
    try:
        await bus.ensure_buckets(replicas)
        with suppress(InvalidDeployment):  # the services that use it say so; events are committed without
            await deployment_of(bus)
        await bus.ensure(create_streams=create_streams, replicas=replicas, max_bytes=max_bytes)
    except (DefinitionMismatch, ApiError, StorageTooSmall) as error:
        stream = await bus.stream_state()
        # one that may be created and does not exist was refused
        if not create_streams if stream is None else replace.in_progress(stream):
            raise StreamMissing(f"stream {SESSIONS.name} is being recreated") from error
        raise


async def _check_schema(database: Database, ingest: bool, views: bool) -> str:
    async with database.transaction() as connection:
        revision = await migrations.check(connection)
        await check_rights(connection, ingest=ingest, views=views)
    return revision
