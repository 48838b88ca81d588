"""Settings of session-api, from the environment."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from antiphon.chassis.http.cors import Cors, parse_origins
from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.limits import ServerLimits
from antiphon.chassis.scrape import MetricsSettings
from antiphon.chassis.settings import (
    HttpUrl,
    LiveKitSettings,
    LiveKitUrl,
    LogSettings,
    NatsSettings,
    Port,
    PostgresSettings,
    SecretFile,
    ShutdownSettings,
    Text,
    websocket_url,
)

BODY_LIMIT_BYTES = 64 * 1024

Limit = Annotated[int, Field(ge=0, le=1_000_000)]


def _origins(text: str) -> str:
    parse_origins(text)
    return text


class ApiSettings(
    NatsSettings, PostgresSettings, LiveKitSettings, ShutdownSettings, LogSettings, MetricsSettings
):
    """Settings of session-api."""

    host: Text = Field("127.0.0.1", validation_alias="ANTIPHON_API_HOST")
    port: Port = Field(8000, validation_alias="ANTIPHON_API_PORT")
    agent_name: Text | None = Field(
        None,
        validation_alias="ANTIPHON_AGENT_NAME",
        description="the agent that runs flows; antiphon-<id of the deployment> when it is not set",
    )
    public_livekit_url: LiveKitUrl | None = Field(
        None,
        validation_alias="ANTIPHON_LIVEKIT_PUBLIC_URL",
        description="where callers reach LiveKit, when that is not LIVEKIT_URL",
    )
    token_ttl_seconds: int = Field(600, ge=60, le=86_400, validation_alias="ANTIPHON_API_TOKEN_TTL_SECONDS")
    livekit_timeout_seconds: float = Field(
        5.0, gt=0, le=60, validation_alias="ANTIPHON_API_LIVEKIT_TIMEOUT_SECONDS"
    )
    broker_timeout_seconds: float = Field(
        3.0, gt=0, le=60, validation_alias="ANTIPHON_API_BROKER_TIMEOUT_SECONDS"
    )
    heartbeat_seconds: float = Field(15.0, gt=0, le=300, validation_alias="ANTIPHON_API_HEARTBEAT_SECONDS")
    # a client waits for it: a server that hangs is to be a 503, soon
    postgres_statement_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        5.0, validation_alias="ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS"
    )
    public_url: HttpUrl | None = Field(
        None,
        validation_alias="ANTIPHON_API_PUBLIC_URL",
        description="where clients reach this API; the base of the URLs in its answers",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] | None = Field(
        None,
        validation_alias="ANTIPHON_API_CORS_ORIGINS",
        description="origins of browser apps that may call the API, separated by commas; none by default",
    )
    hsts_seconds: int = Field(0, ge=0, le=63_072_000, validation_alias="ANTIPHON_API_HSTS_SECONDS")
    deadline_seconds: float = Field(8.0, gt=0, le=300, validation_alias="ANTIPHON_API_DEADLINE_SECONDS")
    flow_check_seconds: float = Field(
        10.0,
        gt=0,
        le=60,
        validation_alias="ANTIPHON_API_FLOW_CHECK_SECONDS",
        description="how long a flow that is published waits for its check by an agent worker",
    )
    max_connections: int = Field(2000, ge=1, le=100_000, validation_alias="ANTIPHON_API_MAX_CONNECTIONS")
    max_connections_per_address: Limit = Field(0, validation_alias="ANTIPHON_API_MAX_CONNECTIONS_PER_ADDRESS")
    keep_alive_seconds: float = Field(5.0, gt=0, le=3600, validation_alias="ANTIPHON_API_KEEP_ALIVE_SECONDS")
    pool_size: int = Field(10, ge=1, le=100, validation_alias="ANTIPHON_API_POOL_SIZE")
    bootstrap_api_key: Annotated[str, Field(pattern=r"^[!-~]{32,256}$")] | None = Field(
        None,
        validation_alias="ANTIPHON_BOOTSTRAP_API_KEY",
        repr=False,
        description="the secret of the operator's first key, 32 to 256 visible ASCII characters",
    )
    bootstrap_api_key_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_BOOTSTRAP_API_KEY_FILE",
        repr=False,
        description="a file with it, read at the start",
    )
    # 0 is no limit
    requests_per_key: Limit = Field(1000, validation_alias="ANTIPHON_API_RATE_REQUESTS_PER_KEY")
    requests_per_tenant: Limit = Field(5000, validation_alias="ANTIPHON_API_RATE_REQUESTS_PER_TENANT")
    creates_per_tenant: Limit = Field(200, validation_alias="ANTIPHON_API_RATE_CREATES_PER_TENANT")
    failures_per_address: Limit = Field(10, validation_alias="ANTIPHON_API_RATE_FAILURES_PER_ADDRESS")
    streams_per_key: Limit = Field(500, validation_alias="ANTIPHON_API_QUOTA_STREAMS_PER_KEY")
    streams_per_tenant: Limit = Field(1000, validation_alias="ANTIPHON_API_QUOTA_STREAMS_PER_TENANT")
    sessions_per_tenant: Limit = Field(0, validation_alias="ANTIPHON_API_QUOTA_SESSIONS_PER_TENANT")

    @model_validator(mode="after")
    def _leave_connections(self) -> Self:
        """Refuse a quota of streams that lets one key or tenant take every connection."""
        quotas = (("streams_per_key", "KEY"), ("streams_per_tenant", "TENANT"))
        for name, whose in quotas:
            quota = getattr(self, name)
            if name in self.model_fields_set and quota >= self.max_connections:
                raise ValueError(
                    f"ANTIPHON_API_QUOTA_STREAMS_PER_{whose} is {quota}: it must be below "
                    f"ANTIPHON_API_MAX_CONNECTIONS, which is {self.max_connections}"
                )
        return self

    @property
    def stream_quotas(self) -> tuple[int, int]:
        """The most streams of a key and of a tenant; the defaults leave connections to others."""
        per_key, per_tenant = self.streams_per_key, self.streams_per_tenant
        if "streams_per_key" not in self.model_fields_set:
            per_key = min(per_key, max(1, self.max_connections // 4))
        if "streams_per_tenant" not in self.model_fields_set:
            per_tenant = min(per_tenant, max(1, self.max_connections // 2))
        return per_key, per_tenant

    @property
    def http_policy(self) -> HttpPolicy:
        """What every request is held to, and what every response has."""
        return HttpPolicy(
            body_limit_bytes=BODY_LIMIT_BYTES,
            deadline_seconds=self.deadline_seconds,
            cors=Cors(parse_origins(self.cors_origins or "")),
            hsts_seconds=self.hsts_seconds,
        )

    @property
    def server_limits(self) -> ServerLimits:
        """The limits of the HTTP server."""
        return ServerLimits(
            connections=self.max_connections,
            connections_per_address=self.max_connections_per_address,
            keep_alive_seconds=self.keep_alive_seconds,
        )

    @property
    def callers_livekit_url(self) -> str:
        """The WebSocket URL of LiveKit for callers."""
        return websocket_url(self.public_livekit_url or self.livekit_url)
