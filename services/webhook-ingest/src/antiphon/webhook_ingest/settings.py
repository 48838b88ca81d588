"""Settings of webhook-ingest, from the environment."""

from pydantic import Field

from antiphon.chassis.settings import LiveKitSettings, LogSettings, NatsSettings, Port, Text


class WebhookSettings(NatsSettings, LiveKitSettings, LogSettings):
    """Settings of webhook-ingest."""

    host: Text = Field("127.0.0.1", validation_alias="ANTIPHON_WEBHOOKS_HOST")
    port: Port = Field(8001, validation_alias="ANTIPHON_WEBHOOKS_PORT")
    broker_timeout_seconds: float = Field(
        3.0, gt=0, le=60, validation_alias="ANTIPHON_WEBHOOKS_BROKER_TIMEOUT_SECONDS"
    )
