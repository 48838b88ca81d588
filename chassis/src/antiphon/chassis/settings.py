"""Settings from the environment, read once at start; an invalid one ends the process with exit code 2."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from antiphon.chassis.livekit_keys import LiveKitKeys
from antiphon.chassis.nats_access import DEFAULT_NATS_URL, NatsAccess, check_urls
from antiphon.chassis.near_names import nearly
from antiphon.chassis.postgres_dsn import DSN, address_of, check_dsn
from antiphon.chassis.secret_files import both_are_set, read_secret

EXIT_BAD_SETTINGS = 2
PREFIX = "ANTIPHON_"

_HIDDEN = "(hidden)"


def _url_with_scheme(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            valid = parts.scheme in schemes and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            valid = False
        if not valid or any(letter.isspace() for letter in value):
            starts = " or ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"must start with {starts}, then a host, and a port from 1 to 65535 if any")
        return parts.geturl()  # with the scheme in lower case

    return AfterValidator(check)


def _without_query(value: str) -> str:
    if "?" in value or "#" in value or "@" in value:
        raise ValueError("must be a URL without user, query and fragment")
    return value.rstrip("/")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _first_line(value: str) -> str:
    return value.strip().splitlines()[0].strip()


AGAIN = "read again at each connect"


def _empty_is_unset(value: object) -> object:
    return None if value == "" else value


SecretFile = Annotated[Path | None, BeforeValidator(_empty_is_unset)]


def _format(words: str) -> WithJsonSchema:
    """Return what the reference of settings says of the values that a check of our own takes."""
    return WithJsonSchema({"type": "string", "format": words})


NatsUrl = Annotated[str, AfterValidator(check_urls), _format("`nats`, `tls`, `ws` or `wss` URL")]
PostgresDsn = Annotated[str, AfterValidator(check_dsn), _format("`postgresql` URL")]
LiveKitUrl = Annotated[
    str,
    _url_with_scheme("ws", "wss", "http", "https"),
    AfterValidator(_without_query),
    _format("`ws`, `wss`, `http` or `https` URL"),
]  # it is shown, and callers get it
HttpUrl = Annotated[
    str, _url_with_scheme("http", "https"), AfterValidator(_without_query), _format("`http` or `https` URL")
]
Text = Annotated[str, AfterValidator(_not_blank)]
FirstLine = Annotated[str, AfterValidator(_not_blank), AfterValidator(_first_line)]
Port = Annotated[int, Field(ge=1, le=65535)]


_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
_WEBSOCKET_SCHEMES = {http: websocket for websocket, http in _HTTP_SCHEMES.items()}


def http_url(url: str) -> str:
    """Return the URL of LiveKit's API, from that of its WebSocket or its own."""
    return _with_scheme(url, _HTTP_SCHEMES)


def websocket_url(url: str) -> str:
    """Return the URL that clients of LiveKit connect to, from that of its API or its own."""
    return _with_scheme(url, _WEBSOCKET_SCHEMES)


def _with_scheme(url: str, schemes: dict[str, str]) -> str:
    parts = urlsplit(url)
    return parts._replace(scheme=schemes.get(parts.scheme, parts.scheme)).geturl()


class Settings(BaseSettings):
    """The base class of settings; a service composes its own from the classes below.

    A field with `repr=False` is a secret: no error shows what was given for it. A field `x_file` names the
    file that holds the value of the field `x`. The descriptions of fields are those of
    docs/reference/settings.md: Markdown, with links from the root of the repository.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,  # without it, a field named `home` or `port` would read HOME or PORT
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            secret = name.removesuffix("_file")
            variable = str(field.validation_alias)
            path = given.get(variable) or given.get(name)
            if secret == name or not path:
                continue
            named = str(cls.model_fields[secret].validation_alias)
            if given.get(named) or given.get(secret):
                raise both_are_set(named)
            content = read_secret(variable, path)
            read[named] = address_of(path) if named == DSN else content
        return given | read


class NatsSettings(Settings):
    """The addresses of the broker, and what it asks for."""

    nats_url: NatsUrl = Field(
        DEFAULT_NATS_URL,
        validation_alias="ANTIPHON_NATS_URL",
        repr=False,
        description="the broker; commas separate the servers of a cluster. `nats://user:password@host` and "
        "`nats://token@host` work, with special characters as `%2F`",
    )
    nats_creds: Path | None = Field(
        None,
        validation_alias="ANTIPHON_NATS_CREDS",
        description="a `.creds` file, as `nsc` writes it; it is read again at each connect",
    )
    nats_user: Text | None = Field(
        None, validation_alias="ANTIPHON_NATS_USER", description="the user, when not in the URL"
    )
    nats_password: Text | None = Field(
        None, validation_alias="ANTIPHON_NATS_PASSWORD", repr=False, description="the user's password"
    )
    nats_ca: Path | None = Field(
        None,
        validation_alias="ANTIPHON_NATS_CA",
        description="a PEM file with the authority of the servers' certificates; when not set, the system's",
    )
    nats_cert: Path | None = Field(
        None, validation_alias="ANTIPHON_NATS_CERT", description="a PEM file with a client certificate"
    )
    nats_key: Path | None = Field(
        None, validation_alias="ANTIPHON_NATS_KEY", description="a PEM file with the key of that certificate"
    )
    nats_url_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_NATS_URL_FILE",
        repr=False,
        description=f"a file with the URL, {AGAIN}",
    )
    nats_user_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_NATS_USER_FILE",
        repr=False,
        description=f"a file with the user, {AGAIN}",
    )
    nats_password_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_NATS_PASSWORD_FILE",
        repr=False,
        description=f"a file with the password, {AGAIN}",
    )

    @field_validator(
        "nats_creds", "nats_user", "nats_password", "nats_ca", "nats_cert", "nats_key", mode="before"
    )
    @classmethod
    def _empty_as_unset(cls, value: object) -> object:
        return _empty_is_unset(value)  # as the recorder reads them

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
        description="the copies of each stream and bucket; it needs as many servers. When it is set and an "
        "existing stream has another number, persistence exits with 1 and names the stream; change it with "
        "`nats stream edit SESSIONS --replicas 3` (and `KV_keys`, `KV_flows`). When it is not set, new ones "
        "have one copy, and any number is accepted",
    )
    stream_max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 50)] | None = Field(
        None,
        validation_alias="ANTIPHON_STREAM_MAX_BYTES",
        description="the bytes that the stream of events may hold, which the broker reserves; an existing "
        "stream is changed to it and keeps its events, also when it is smaller. When it is not set, a new "
        "stream may hold 8 GiB, and an existing one keeps its own",
    )


class PostgresSettings(Settings):
    """The address of the database with the event log and the views, and the time limits of its use."""

    postgres_dsn: PostgresDsn = Field(
        validation_alias="ANTIPHON_POSTGRES_DSN",
        repr=False,
        description="`postgresql://user:password@host:port/database?parameter=value`, with special "
        "characters of the password escaped (`#` as `%23`, `/` as `%2F`, `@` as `%40`); it is never shown. "
        "[A login for each](docs/how-to/lock-postgres.md)",
    )
    postgres_dsn_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_POSTGRES_DSN_FILE",
        repr=False,
        description=f"a file with the DSN, {AGAIN}",
    )
    postgres_statement_timeout_seconds: Annotated[float, Field(ge=0.001, le=3600)] = Field(
        30.0,
        validation_alias="ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS",
        description="Postgres cancels a statement, or a transaction that does nothing, after this long",
    )
    postgres_pool_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        5.0,
        validation_alias="ANTIPHON_POSTGRES_POOL_TIMEOUT_SECONDS",
        description="how long to wait for a free connection; then requests fail with 503 and readiness is "
        "red",
    )


class LiveKitSettings(Settings):
    """The address of LiveKit, and the key to sign with."""

    livekit_url: LiveKitUrl = Field(
        "ws://127.0.0.1:7880", validation_alias="LIVEKIT_URL", description="LiveKit, without user and query"
    )
    livekit_api_key: FirstLine = Field(validation_alias="LIVEKIT_API_KEY", description="its API key")
    livekit_api_secret: FirstLine = Field(
        validation_alias="LIVEKIT_API_SECRET", repr=False, description="the secret of that key"
    )
    livekit_api_key_file: SecretFile = Field(
        None,
        validation_alias="LIVEKIT_API_KEY_FILE",
        repr=False,
        description="a file with the key in its first line, read again when it changes; further lines are "
        "keys that webhooks may still be signed with",
    )
    livekit_api_secret_file: SecretFile = Field(
        None,
        validation_alias="LIVEKIT_API_SECRET_FILE",
        repr=False,
        description="a file with the secret in its first line, read again when it changes; line by line as "
        "the keys",
    )

    @model_validator(mode="after")
    def _keys_usable(self) -> Self:
        self.livekit_keys()
        return self

    def livekit_keys(self) -> LiveKitKeys:
        """Return the keys, which follow their files."""
        return LiveKitKeys(
            self.livekit_api_key,
            self.livekit_api_secret,
            key_file=self.livekit_api_key_file,
            secret_file=self.livekit_api_secret_file,
        )


class ShutdownSettings(Settings):
    """How a server behind a balancer ends."""

    shutdown_delay_seconds: float = Field(
        0.0,
        ge=0,
        le=300,
        validation_alias="ANTIPHON_SHUTDOWN_DELAY_SECONDS",
        description="how long the server still takes requests after SIGTERM: it is unready at once, and "
        "each response closes its connection. Behind a balancer, longer than the balancer takes to notice: "
        "[upgrade](docs/how-to/upgrade.md#replicas-that-end). Requests that are open afterwards get the "
        "time of the service's deadline (`ANTIPHON_API_DEADLINE_SECONDS`, "
        "`ANTIPHON_WEBHOOKS_DEADLINE_SECONDS`) to end",
    )


class LogSettings(Settings):
    """The format and level of the logs, and what traces and logs may tell."""

    log_format: Literal["json", "pretty"] = Field(
        "json", validation_alias="ANTIPHON_LOG_FORMAT", description="the format of the logs"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="ANTIPHON_LOG_LEVEL", description="the least level that is logged"
    )
    telemetry_personal_data: bool = Field(
        False,
        validation_alias="ANTIPHON_TELEMETRY_PERSONAL_DATA",
        description="whether logs and traces may hold what people say, who they are, and messages of "
        "errors: [personal data](docs/how-to/see-traces.md#personal-data)",
    )
    traces_per_second: Annotated[float, Field(ge=0, le=100_000)] = Field(
        5.0,
        validation_alias="ANTIPHON_TRACES_PER_SECOND",
        description="new traces of each HTTP method that a process records in a second; those that clients "
        "have begun and record come on top, up to 50 or this number, and `OTEL_TRACES_SAMPLER` replaces both",
    )


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(settings: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment; warn of variables that look like misspelt ones.

    Exits with code 2 and one line per invalid variable.
    """
    for line in misspelt(os.environ, settings):
        print(line, file=sys.stderr)  # noqa: T201 - as every invalid setting
    try:
        return settings()
    except SettingsError as error:  # of a setting that is JSON; the message names the field only
        print(error, file=sys.stderr)  # noqa: T201
    except ValidationError as error:
        for problem in error.errors():
            print(_explain(problem, settings), file=sys.stderr)  # noqa: T201 - these settings configure logging
    raise SystemExit(EXIT_BAD_SETTINGS) from None


def misspelt(environment: Iterable[str], settings: type[Settings]) -> list[str]:
    """Return a line for each variable that nothing reads and that is nearly one of these settings.

    The variables of other services may be in the same environment: only near misses are named.
    """
    known = {str(field.validation_alias) for field in settings.model_fields.values()}
    return [
        f"{given} is not a setting: did you mean {near[0]}?"
        for given in sorted(environment)
        if given.startswith(PREFIX) and given not in known
        if given != PREFIX.rstrip("_") and (near := [name for name in sorted(known) if nearly(given, name)])
    ]


def _explain(problem: ErrorDetails, settings: type[Settings]) -> str:
    allowed = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:  # a check of several settings together: its input is all of them, secrets included
        return allowed
    name = str(problem["loc"][0])  # the attribute's, if its default is wrong
    fields = settings.model_fields.items()
    variable, field = next(
        (str(field.validation_alias), field)
        for attribute, field in fields
        if name in (attribute, str(field.validation_alias))
    )
    if problem["type"] == "missing":
        return f"{variable} is not set: it is required"
    given = str(problem["input"])
    # A setting that is no secret may hold one too: a URL with a password, or a file's content.
    hidden = not field.repr or "@" in given or "\n" in given
    return f"{variable} is {_HIDDEN if hidden else repr(given)}: {allowed[:1].lower()}{allowed[1:]}"
