"""The settings of persistence, read from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from antiphon.chassis.settings import LogSettings, NatsSettings, Port, PostgresSettings, StreamSettings, Text

LONGEST_MIGRATION_SECONDS = 7 * 86_400  # of a statement; Postgres takes up to 24 days


class MigrateSettings(PostgresSettings, LogSettings):
    """The settings of `migrate`."""

    migrate_statement_timeout_seconds: Annotated[float, Field(ge=0.001, le=LONGEST_MIGRATION_SECONDS)] = (
        Field(
            3600.0,
            validation_alias="ANTIPHON_MIGRATE_STATEMENT_TIMEOUT_SECONDS",
            description="the time limit of a statement of `migrate`, in place of "
            "`ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS`; a week at most",
        )
    )


class RolesSettings(PostgresSettings, LogSettings):
    """The settings of `roles`."""


class StatusSettings(NatsSettings, PostgresSettings, LogSettings):
    """The settings of `status`."""


class VerifySettings(PostgresSettings, LogSettings):
    """The settings of `verify`."""


class RebuildSettings(PostgresSettings, LogSettings):
    """The settings of `rebuild` and `resume`."""


class RecreateSettings(StreamSettings, PostgresSettings, LogSettings):
    """The settings of `streams recreate`."""


class EnsureSettings(StreamSettings, PostgresSettings, LogSettings):
    """The settings of `streams ensure`."""


class BackupSettings(StreamSettings, PostgresSettings, LogSettings):
    """The settings of `backup` and `restore`."""

    postgres_bin: Path | None = Field(
        None,
        validation_alias="ANTIPHON_POSTGRES_BIN",
        description="the folder of `pg_dump` and `pg_restore`, for [`backup` and "
        "`restore`](docs/how-to/back-up-and-restore.md); when not set, those on `PATH`. `antiphon env` sets "
        "it to those of the embedded Postgres",
    )


class PersistenceSettings(StreamSettings, PostgresSettings, LogSettings):
    """The settings of `run`."""

    health_host: Text = Field(
        "127.0.0.1",
        validation_alias="ANTIPHON_PERSISTENCE_HEALTH_HOST",
        description="the address that its health routes bind",
    )
    health_port: Port = Field(
        8002, validation_alias="ANTIPHON_PERSISTENCE_HEALTH_PORT", description="the port of its health routes"
    )
    lease_timeout_seconds: Annotated[float, Field(ge=1, le=60)] = Field(
        4.0,
        validation_alias="ANTIPHON_LEASE_TIMEOUT_SECONDS",
        description="after this long without a heartbeat Postgres ends a replica's session, and the others "
        "[take its partitions](docs/how-to/scale-persistence.md)",
    )
    ingest_batch: Annotated[int, Field(ge=1, le=10_000)] = Field(
        500,
        validation_alias="ANTIPHON_INGEST_BATCH",
        description="the maximum number of events in a transaction; pulls and transactions are limited in "
        "bytes too",
    )
    dead_letters_in_a_row: Annotated[int, Field(ge=1)] = Field(
        100,
        validation_alias="ANTIPHON_INGEST_DEAD_LETTERS_IN_A_ROW",
        description="consecutive dead letters after which the partition stops; for those that a client can "
        "cause, only if a known good event is refused too",
    )
    test_session_days: Annotated[float, Field(ge=0, le=3650)] = Field(
        7.0,
        validation_alias="ANTIPHON_TEST_SESSION_DAYS",
        description="days after its end, or its last event if it never ended, after which a [test "
        "session](docs/how-to/publish-flows.md#try-a-flow-by-voice) is erased from the event log and all "
        "views; 0 keeps it",
    )
