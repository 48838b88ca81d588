"""The settings of persistence, read from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from antiphon.chassis.settings import LogSettings, NatsSettings, Port, PostgresSettings, StreamSettings, Text

LONGEST_MIGRATION_SECONDS = 7 * 86_400  # of a statement; Postgres takes up to 24 days


class MigrateSettings(PostgresSettings, LogSettings):
    """The settings of `migrate`."""

    migrate_statement_timeout_seconds: Annotated[float, Field(ge=0.001, le=LONGEST_MIGRATION_SECONDS)] = (
        Field(3600.0, validation_alias="ANTIPHON_MIGRATE_STATEMENT_TIMEOUT_SECONDS")
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

    postgres_bin: Path | None = Field(None, validation_alias="ANTIPHON_POSTGRES_BIN")


class PersistenceSettings(StreamSettings, PostgresSettings, LogSettings):
    """The settings of `run`."""

    health_host: Text = Field("127.0.0.1", validation_alias="ANTIPHON_PERSISTENCE_HEALTH_HOST")
    health_port: Port = Field(8002, validation_alias="ANTIPHON_PERSISTENCE_HEALTH_PORT")
    lease_timeout_seconds: Annotated[float, Field(ge=1, le=60)] = Field(
        4.0, validation_alias="ANTIPHON_LEASE_TIMEOUT_SECONDS"
    )
    ingest_batch: Annotated[int, Field(ge=1, le=10_000)] = Field(
        500, validation_alias="ANTIPHON_INGEST_BATCH"
    )
    dead_letters_in_a_row: Annotated[int, Field(ge=1)] = Field(
        100, validation_alias="ANTIPHON_INGEST_DEAD_LETTERS_IN_A_ROW"
    )
    test_session_days: Annotated[float, Field(ge=0, le=3650)] = Field(
        7.0, validation_alias="ANTIPHON_TEST_SESSION_DAYS"
    )
