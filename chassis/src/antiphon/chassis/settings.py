"""Settings from the environment, read once at start; an invalid one ends the process with exit code 2."""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from antiphon.chassis.nats_access import DEFAULT_NATS_URL, NatsAccess, check_urls
from antiphon.chassis.postgres_dsn import check_dsn

EXIT_BAD_SETTINGS = 2

_SECRETS = ("SECRET", "PASSWORD", "API_KEY", "DSN")  # variables with such a name are never shown


def _url_with_scheme(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            valid = parts.scheme in schemes and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            valid = False
        if not valid:
            starts = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must start with {starts}, then a host, and a port from 1 to 65535 if any")
        return value

    return AfterValidator(check)


def _without_query(value: str) -> str:
    if "?" in value or "#" in value or "@" in value:
        raise ValueError("must be a URL without user, query and fragment")
    return value.rstrip("/")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


NatsUrl = Annotated[str, AfterValidator(check_urls)]
PostgresDsn = Annotated[str, AfterValidator(check_dsn)]
LiveKitUrl = Annotated[str, _url_with_scheme("ws", "wss", "http", "https")]
HttpUrl = Annotated[str, _url_with_scheme("http", "https"), AfterValidator(_without_query)]
Text = Annotated[str, AfterValidator(_not_blank)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The base class of settings; a service composes its own from the classes below."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_prefix="ANTIPHON_",  # without it, a field named `home` or `port` would read HOME or PORT
    )


class NatsSettings(Settings):
    """The addresses of the broker, and what it asks for."""

    nats_url: NatsUrl = Field(
        DEFAULT_NATS_URL,
        validation_alias="ANTIPHON_NATS_URL",
        repr=False,
        description="one URL, or those of several servers of one cluster, separated by commas",
    )
    nats_creds: Path | None = Field(None, validation_alias="ANTIPHON_NATS_CREDS")
    nats_user: Text | None = Field(None, validation_alias="ANTIPHON_NATS_USER")
    nats_password: Text | None = Field(None, validation_alias="ANTIPHON_NATS_PASSWORD", repr=False)
    nats_ca: Path | None = Field(None, validation_alias="ANTIPHON_NATS_CA")
    nats_cert: Path | None = Field(None, validation_alias="ANTIPHON_NATS_CERT")
    nats_key: Path | None = Field(None, validation_alias="ANTIPHON_NATS_KEY")

    @field_validator(
        "nats_creds", "nats_user", "nats_password", "nats_ca", "nats_cert", "nats_key", mode="before"
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value  # as the recorder reads them

    @model_validator(mode="after")
    def _usable(self) -> Self:
        _ = self.nats
        return self

    @property
    def nats(self) -> NatsAccess:
        """How to reach the broker."""
        return NatsAccess.from_settings(self)


class StreamSettings(NatsSettings):
    """The broker, for those who create its streams and buckets."""

    nats_replicas: Annotated[int, Field(ge=1, le=5)] | None = Field(
        None,
        validation_alias="ANTIPHON_NATS_REPLICAS",
        description="copies of each stream and bucket; one by default, and then existing ones may have more",
    )


class PostgresSettings(Settings):
    """The address of the database with the event log and the views, and the time limits of its use."""

    postgres_dsn: PostgresDsn = Field(validation_alias="ANTIPHON_POSTGRES_DSN", repr=False)
    postgres_statement_timeout_seconds: Annotated[float, Field(ge=0.001, le=3600)] = Field(
        30.0, validation_alias="ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS"
    )
    postgres_pool_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        5.0, validation_alias="ANTIPHON_POSTGRES_POOL_TIMEOUT_SECONDS"
    )


class LiveKitSettings(Settings):
    """The address of LiveKit, and the key to sign with."""

    livekit_url: LiveKitUrl = Field("ws://127.0.0.1:7880", validation_alias="LIVEKIT_URL")
    livekit_api_key: Text = Field(validation_alias="LIVEKIT_API_KEY")
    livekit_api_secret: Text = Field(validation_alias="LIVEKIT_API_SECRET", repr=False)


class LogSettings(Settings):
    """The format and level of the logs."""

    log_format: Literal["json", "pretty"] = Field("json", validation_alias="ANTIPHON_LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="ANTIPHON_LOG_LEVEL"
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment.

    Exits with code 2 and one line per invalid variable.
    """
    try:
        return settings()
    except ValidationError as error:
        for problem in error.errors():
            print(_explain(problem), file=sys.stderr)  # noqa: T201 - logging is configured by these settings
        raise SystemExit(EXIT_BAD_SETTINGS) from None


def _explain(problem: ErrorDetails) -> str:
    variable = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{variable} is not set: it is required"
    allowed = problem["msg"].removeprefix("Value error, ")
    if not variable:  # a check of several settings together: its input is all of them, secrets included
        return allowed
    given = str(problem["input"])
    secret = (
        any(word in variable for word in _SECRETS) or "@" in given
    )  # a URL may hold a password or a token
    given = "(hidden)" if secret else repr(given)
    return f"{variable} is {given}: {allowed[:1].lower()}{allowed[1:]}"
