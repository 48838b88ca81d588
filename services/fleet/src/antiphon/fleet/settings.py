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

    host: Text = Field("127.0.0.1", validation_alias="ANTIPHON_FLEET_HOST")
    port: Port = Field(8005, validation_alias="ANTIPHON_FLEET_PORT")
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
        description="kubernetes writes the calls of each worker on its pod: idle pods are removed first",
    )
    pod_selector: Selector = Field(
        "app.kubernetes.io/component=agent-worker",
        validation_alias="ANTIPHON_FLEET_POD_SELECTOR",
        description="the labels of the pods of the workers, no other pod is written",
    )
    namespace: Text | None = Field(
        None,
        validation_alias="ANTIPHON_FLEET_NAMESPACE",
        description="the namespace of the workers; by default the one of this pod",
    )
    api_server: HttpUrl | None = Field(
        None,
        validation_alias="ANTIPHON_FLEET_API_SERVER",
        description="by default the one that Kubernetes names to each pod",
    )

    service_account: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        validation_alias="ANTIPHON_FLEET_SERVICE_ACCOUNT",
        description="the folder with token, ca.crt and namespace",
    )

    @property
    def http_policy(self) -> HttpPolicy:
        """What every request is held to, and what every response has."""
        return HttpPolicy(body_limit_bytes=1024, retry_after_seconds=RETRY_AFTER_SECONDS)
