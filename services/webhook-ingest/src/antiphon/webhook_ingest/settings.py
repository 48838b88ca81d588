"""Settings of webhook-ingest, from the environment."""

from pydantic import Field

from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.http.limits import ServerLimits
from antiphon.chassis.scrape import MetricsSettings
from antiphon.chassis.settings import (
    LiveKitSettings,
    LogSettings,
    NatsSettings,
    Port,
    ShutdownSettings,
    Text,
)

BODY_LIMIT_BYTES = 512 * 1024
# LiveKit makes four more attempts, so an outage of forty seconds loses no webhook
RETRY_AFTER_SECONDS = 10


class WebhookSettings(NatsSettings, LiveKitSettings, ShutdownSettings, LogSettings, MetricsSettings):
    """Settings of webhook-ingest."""

    host: Text = Field(
        "127.0.0.1", validation_alias="ANTIPHON_WEBHOOKS_HOST", description="the address that it binds"
    )
    port: Port = Field(8001, validation_alias="ANTIPHON_WEBHOOKS_PORT", description="its port")
    broker_timeout_seconds: float = Field(
        3.0,
        gt=0,
        le=60,
        validation_alias="ANTIPHON_WEBHOOKS_BROKER_TIMEOUT_SECONDS",
        description="how long a webhook waits for the broker before it is refused; LiveKit retries",
    )
    deadline_seconds: float = Field(
        8.0,
        gt=0,
        le=300,
        validation_alias="ANTIPHON_WEBHOOKS_DEADLINE_SECONDS",
        description="how long a webhook may take; then 503, and LiveKit retries",
    )
    max_connections: int = Field(
        500,
        ge=1,
        le=100_000,
        validation_alias="ANTIPHON_WEBHOOKS_MAX_CONNECTIONS",
        description="open connections; for more, "
        "[those that wait are closed](docs/reference/http-server.md#a-full-server), then 503",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        le=100_000,
        validation_alias="ANTIPHON_WEBHOOKS_MAX_CONNECTIONS_PER_ADDRESS",
        description="open connections of one client address, health checks included; 0 is no limit",
    )

    @property
    def http_policy(self) -> HttpPolicy:
        """What every request is held to, and what every response has."""
        return HttpPolicy(
            body_limit_bytes=BODY_LIMIT_BYTES,
            deadline_seconds=self.deadline_seconds,
            retry_after_seconds=RETRY_AFTER_SECONDS,
            api_prefix="/api/",
        )

    @property
    def server_limits(self) -> ServerLimits:
        """The limits of the HTTP server."""
        return ServerLimits(
            connections=self.max_connections, connections_per_address=self.max_connections_per_address
        )
