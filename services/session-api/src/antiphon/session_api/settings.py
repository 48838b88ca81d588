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

    host: Text = Field(
        "127.0.0.1", validation_alias="ANTIPHON_API_HOST", description="the address that it binds"
    )
    port: Port = Field(8000, validation_alias="ANTIPHON_API_PORT", description="its port")
    agent_name: Text | None = Field(
        None,
        validation_alias="ANTIPHON_AGENT_NAME",
        description="the agent that LiveKit dispatches; agent-worker registers under the same name and "
        "takes only jobs of its own [deployment](docs/reference/glossary.md#calls). When not set, "
        "`antiphon-` and the deployment's id",
    )
    public_livekit_url: LiveKitUrl | None = Field(
        None,
        validation_alias="ANTIPHON_LIVEKIT_PUBLIC_URL",
        description="the URL of LiveKit for callers, when it is not `LIVEKIT_URL`",
    )
    token_ttl_seconds: int = Field(
        600,
        ge=60,
        le=86_400,
        validation_alias="ANTIPHON_API_TOKEN_TTL_SECONDS",
        description="how long a join token admits to the room; who has joined stays. The token of a create "
        "lives for its `ttl_seconds` if that is longer",
    )
    livekit_timeout_seconds: float = Field(
        5.0,
        gt=0,
        le=60,
        validation_alias="ANTIPHON_API_LIVEKIT_TIMEOUT_SECONDS",
        description="how long a create waits for LiveKit",
    )
    broker_timeout_seconds: float = Field(
        3.0,
        gt=0,
        le=60,
        validation_alias="ANTIPHON_API_BROKER_TIMEOUT_SECONDS",
        description="how long it waits for the broker",
    )
    heartbeat_seconds: float = Field(
        15.0,
        gt=0,
        le=300,
        validation_alias="ANTIPHON_API_HEARTBEAT_SECONDS",
        description="the interval between comments on an idle event stream",
    )
    # a client waits for it: a server that hangs is to be a 503, soon
    postgres_statement_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        5.0,
        validation_alias="ANTIPHON_POSTGRES_STATEMENT_TIMEOUT_SECONDS",
        description="its own default; a read answers 503 two seconds later at most, also when Postgres hangs",
    )
    public_url: HttpUrl | None = Field(
        None,
        validation_alias="ANTIPHON_API_PUBLIC_URL",
        description="where clients reach the API, such as `https://api.example.com`: the start of "
        "`events_url` and of every other URL in an answer. When not set, a client on the same machine gets "
        "the URL that it called, every other one a path",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] | None = Field(
        None,
        validation_alias="ANTIPHON_API_CORS_ORIGINS",
        description="origins of browser apps that may call the API, with commas: "
        "`https://console.example.com, http://localhost:3000`; `*` allows any",
    )
    hsts_seconds: int = Field(
        0,
        ge=0,
        le=63_072_000,
        validation_alias="ANTIPHON_API_HSTS_SECONDS",
        description="with more than 0, `Strict-Transport-Security` with this `max-age`; set it when the API "
        "is reached over HTTPS only",
    )
    deadline_seconds: float = Field(
        8.0,
        gt=0,
        le=300,
        validation_alias="ANTIPHON_API_DEADLINE_SECONDS",
        description="how long a request may take until its response starts; then 503 `deadline-exceeded`",
    )
    flow_check_seconds: float = Field(
        10.0,
        gt=0,
        le=60,
        validation_alias="ANTIPHON_API_FLOW_CHECK_SECONDS",
        description="how long a flow that is published or tried waits for its check by an agent worker; "
        "then 503 `flow-check-unavailable`",
    )
    max_connections: int = Field(
        2000,
        ge=1,
        le=100_000,
        validation_alias="ANTIPHON_API_MAX_CONNECTIONS",
        description="open connections, event streams included; for more, [those that wait are "
        "closed](docs/reference/http-server.md#a-full-server), then 503 `too-many-connections`",
    )
    max_connections_per_address: Limit = Field(
        0,
        validation_alias="ANTIPHON_API_MAX_CONNECTIONS_PER_ADDRESS",
        description="open connections of one client address, health checks included; 0 is no limit. Leave "
        "it at 0 behind a proxy: all clients have the proxy's address",
    )
    keep_alive_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        validation_alias="ANTIPHON_API_KEEP_ALIVE_SECONDS",
        description="how long an idle connection stays open; behind a proxy, longer than the proxy's own "
        "time",
    )
    pool_size: int = Field(
        10, ge=1, le=100, validation_alias="ANTIPHON_API_POOL_SIZE", description="connections to Postgres"
    )
    bootstrap_api_key: Annotated[str, Field(pattern=r"^[!-~]{32,256}$")] | None = Field(
        None,
        validation_alias="ANTIPHON_BOOTSTRAP_API_KEY",
        repr=False,
        description="the secret of the operator's first key, 32 to 256 visible ASCII characters: it is "
        "stored at start unless it is there, and never shown: [the first "
        "key](docs/how-to/manage-api-keys.md#the-first-key)",
    )
    requests_per_key: Limit = Field(
        1000,
        validation_alias="ANTIPHON_API_RATE_REQUESTS_PER_KEY",
        description="requests per second of a key, over ten seconds. 0 is no limit, here and below: "
        "[limits](docs/reference/limits.md)",
    )
    requests_per_tenant: Limit = Field(
        5000,
        validation_alias="ANTIPHON_API_RATE_REQUESTS_PER_TENANT",
        description="requests per second of all keys of a tenant, over ten seconds",
    )
    creates_per_tenant: Limit = Field(
        200,
        validation_alias="ANTIPHON_API_RATE_CREATES_PER_TENANT",
        description="sessions that a tenant creates per second, over ten seconds",
    )
    failures_per_address: Limit = Field(
        10,
        validation_alias="ANTIPHON_API_RATE_FAILURES_PER_ADDRESS",
        description="requests per second without a valid key from one address, over ten seconds",
    )
    streams_per_key: Limit = Field(
        500,
        validation_alias="ANTIPHON_API_QUOTA_STREAMS_PER_KEY",
        description="open event streams of a key; below `ANTIPHON_API_MAX_CONNECTIONS`, of which the "
        "default takes a quarter at most",
    )
    streams_per_tenant: Limit = Field(
        1000,
        validation_alias="ANTIPHON_API_QUOTA_STREAMS_PER_TENANT",
        description="open event streams of a tenant; below `ANTIPHON_API_MAX_CONNECTIONS`, of which the "
        "default takes half at most",
    )
    sessions_per_tenant: Limit = Field(
        0,
        validation_alias="ANTIPHON_API_QUOTA_SESSIONS_PER_TENANT",
        description="sessions of a tenant that have not ended",
    )
    bootstrap_api_key_file: SecretFile = Field(
        None,
        validation_alias="ANTIPHON_BOOTSTRAP_API_KEY_FILE",
        repr=False,
        description="a file with it, read at the start",
    )

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
