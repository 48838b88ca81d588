import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, model_validator

from antiphon.chassis.settings import FirstLine, LiveKitUrl, Port, SecretFile, Settings, Text

LOOPBACK = "127.0.0.1"
CHECKOUT = Path(__file__).parents[4]


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError("the user has no home directory: set HOME, or name a folder") from error
    except OSError as error:
        raise ValueError(
            f"the current folder cannot be used ({error.strerror}): change to another"
        ) from error


def _without_user(url: HttpUrl) -> HttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must have no user or password: the key is ANTIPHON_API_KEY")
    return url


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "antiphon"


Folder = Annotated[Path, AfterValidator(_absolute)]


class ClientSettings(Settings):
    """The session-api that commands read sessions from, if it is not the embedded stack's."""

    url: Annotated[HttpUrl, AfterValidator(_without_user)] | None = Field(
        None,
        validation_alias="ANTIPHON_API_URL",
        description="the session-api that `sessions`, `show`, `tail`, `end`, `call` and the [Python "
        "client](docs/how-to/use-the-python-client.md) use; when not set, the commands use the embedded "
        "stack's, and the client has no default",
    )
    key: Annotated[str, Field(pattern=r"^[!-~]+$")] | None = Field(
        None,
        validation_alias="ANTIPHON_API_KEY",
        repr=False,
        description="the API key for `ANTIPHON_API_URL`; when not set, the embedded stack's",
    )
    key_file: SecretFile = Field(
        None, validation_alias="ANTIPHON_API_KEY_FILE", repr=False, description="a file with the API key"
    )


class StackSettings(Settings):
    """Settings of the embedded stack: its folder and its ports."""

    home: Folder = Field(
        Path(".antiphon"),
        validation_alias="ANTIPHON_HOME",
        validate_default=True,
        description="the folder of the stack's state, mode 0700 and ignored by git. A folder that is not "
        "empty and was not made by `antiphon` is refused",
    )
    cache: Folder = Field(
        default_factory=_user_cache,
        validation_alias="ANTIPHON_CACHE",
        validate_default=True,
        description="the folder of the built livekit-server, shared by all stacks of a user",
    )
    flows: Folder = Field(
        CHECKOUT / "flows",
        validation_alias="ANTIPHON_FLOWS",
        validate_default=True,
        description="the folder of flow files that `up` publishes",
    )
    recreate_streams: bool = Field(
        False,
        validation_alias="ANTIPHON_RECREATE_STREAMS",
        description="`true` makes `up` run `streams recreate --replace` before the services start: "
        "[when the stream was lost](docs/how-to/troubleshoot.md#the-stream-was-lost-recreated-or-restored)",
    )

    nats_port: Port = Field(4222, validation_alias="ANTIPHON_NATS_PORT", description="NATS")
    postgres_port: Port = Field(5433, validation_alias="ANTIPHON_POSTGRES_PORT", description="Postgres")
    livekit_port: Port = Field(
        7880, validation_alias="ANTIPHON_LIVEKIT_PORT", description="LiveKit: HTTP and WebSocket"
    )
    livekit_udp_port: Port = Field(
        7882, validation_alias="ANTIPHON_LIVEKIT_UDP_PORT", description="LiveKit: media, UDP"
    )
    api_host: Text = Field(
        LOOPBACK, validation_alias="ANTIPHON_API_HOST", description="the address that session-api binds"
    )
    api_port: Port = Field(8000, validation_alias="ANTIPHON_API_PORT", description="the port of session-api")
    webhooks_host: Text = Field(
        LOOPBACK,
        validation_alias="ANTIPHON_WEBHOOKS_HOST",
        description="the address that webhook-ingest binds",
    )
    webhooks_port: Port = Field(
        8001, validation_alias="ANTIPHON_WEBHOOKS_PORT", description="the port of webhook-ingest"
    )
    persistence_health_port: Port = Field(
        8002,
        validation_alias="ANTIPHON_PERSISTENCE_HEALTH_PORT",
        description="the port of persistence's `/health/ready`",
    )
    agent_health_port: Port = Field(
        8003,
        validation_alias="ANTIPHON_AGENT_HEALTH_PORT",
        description="the port of agent-worker's `/health/ready`",
    )
    api_metrics_port: Port = Field(
        8006, validation_alias="ANTIPHON_API_METRICS_PORT", description="the port of session-api's `/metrics`"
    )
    webhooks_metrics_port: Port = Field(
        8007,
        validation_alias="ANTIPHON_WEBHOOKS_METRICS_PORT",
        description="the port of webhook-ingest's `/metrics`",
    )

    # an existing LiveKit server; without it the stack runs its own
    livekit_url: LiveKitUrl | None = Field(
        None,
        validation_alias="LIVEKIT_URL",
        description="an existing LiveKit server, without user and query; needs the two below. When not set, "
        "the stack runs its own",
    )
    livekit_api_key: FirstLine | None = Field(
        None, validation_alias="LIVEKIT_API_KEY", description="its key; generated for the stack's own"
    )
    livekit_api_secret: FirstLine | None = Field(
        None,
        validation_alias="LIVEKIT_API_SECRET",
        repr=False,
        description="the secret of that key; generated for the stack's own",
    )
    livekit_api_key_file: SecretFile = Field(
        None, validation_alias="LIVEKIT_API_KEY_FILE", repr=False, description="a file with that key"
    )
    livekit_api_secret_file: SecretFile = Field(
        None, validation_alias="LIVEKIT_API_SECRET_FILE", repr=False, description="a file with that secret"
    )

    @model_validator(mode="after")
    def _external_livekit_needs_keys(self) -> "StackSettings":
        if self.livekit_url and not (self.livekit_api_key and self.livekit_api_secret):
            raise ValueError("LIVEKIT_URL needs LIVEKIT_API_KEY and LIVEKIT_API_SECRET")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> "StackSettings":
        used: dict[int, str] = {}
        for name, field in type(self).model_fields.items():
            # UDP has ports of its own
            if name.endswith("_port") and name != "livekit_udp_port":
                variable, port = str(field.validation_alias), getattr(self, name)
                if port in used:
                    raise ValueError(f"{used[port]} and {variable} are both {port}: choose another port")
                used[port] = variable
        return self

    def environment(self) -> dict[str, str]:
        """Return the environment variables that reproduce these settings in another process."""
        variables = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is not None and not getattr(self, f"{name}_file", None):  # the file is named
                variables[str(field.validation_alias)] = str(value)
        return variables
