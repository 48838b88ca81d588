"""Settings of the fleet service, from the environment."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from antiphon.chassis.http.exchange import HttpPolicy
from antiphon.chassis.settings import HttpUrl, LogSettings, NatsSettings, Port, Text

SERVICE: Final = "fleet"  # the name of the service in logs and traces
RETRY_AFTER_SECONDS: Final = 2
MAX_WARM_CALLS: Final = 100_000


def _selector(value: str) -> str:
    if "=" not in value and " in " not in value:
        raise ValueError("must be a label selector such as app.kubernetes.io/component=agent-worker")
    return value


Selector = Annotated[Text, AfterValidator(_selector)]


class FleetSettings(NatsSettings, LogSettings):
    """Settings of the fleet service."""

    host: Text = Field(
        "127.0.0.1", validation_alias="ANTIPHON_FLEET_HOST", description="the address that it binds"
    )
    port: Port = Field(
        8005,
        validation_alias="ANTIPHON_FLEET_PORT",
        description="its port: `/scale`, `/workers`, `/health/live`, `/health/ready`",
    )
    warm_calls: int = Field(
        1,
        ge=0,
        le=MAX_WARM_CALLS,
        validation_alias="ANTIPHON_FLEET_WARM_CALLS",
        description="calls that there must be room for at once, beyond those that are active",
    )
    deletion_cost: Literal["off", "kubernetes"] = Field(
        "off",
        validation_alias="ANTIPHON_FLEET_DELETION_COST",
        description="`kubernetes` writes the calls of each worker on its pod, so that idle pods are removed "
        "first",
    )
    pod_selector: Selector = Field(
        "app.kubernetes.io/component=agent-worker",
        validation_alias="ANTIPHON_FLEET_POD_SELECTOR",
        description="the labels of the pods of workers, as a label selector; no other pod is written",
    )
    namespace: Text | None = Field(
        None,
        validation_alias="ANTIPHON_FLEET_NAMESPACE",
        description="the namespace of the workers; when not set, its own",
    )
    api_server: HttpUrl | None = Field(
        None,
        validation_alias="ANTIPHON_FLEET_API_SERVER",
        description="the URL of the API server; when not set, as Kubernetes tells each pod",
    )
    service_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        validation_alias="ANTIPHON_FLEET_SERVICE_ACCOUNT",
        description="the folder with `token`, `ca.crt` and `namespace`; the token is read again at each "
        "request",
    )

    @property
    def http_policy(self) -> HttpPolicy:
        """What every request is held to, and what every response has."""
        return HttpPolicy(body_limit_bytes=1024, retry_after_seconds=RETRY_AFTER_SECONDS)
