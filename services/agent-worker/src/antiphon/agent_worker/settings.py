"""The settings of the agent worker, from the environment."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field

from antiphon.chassis.settings import LiveKitSettings, LogSettings, NatsSettings, Port, Text
from antiphon.contracts.workers import PodName
from antiphon.recorder import RecorderSettings
from antiphon.recorder.settings import JOURNAL_DIR, default_journal_dir

SERVICE: Final = "agent-worker"  # the name of the service in logs and traces


def _threshold(value: float) -> float:
    if not (0 < value <= 1 or value == float("inf")):
        raise ValueError("must be above 0 and at most 1, or inf for no limit")
    return value


def _folder(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be blank")  # it would be the folder where the worker was started
    return value


def _pod(value: str | None) -> str | None:
    if not value:
        return None
    try:
        return msgspec.convert(value, PodName)
    except msgspec.ValidationError as error:
        raise ValueError("must be the name of a pod: lower-case letters, digits, - and .") from error


class AgentSettings(NatsSettings, LiveKitSettings, LogSettings):
    """The settings of the agent worker."""

    journal_dir: Annotated[Path, BeforeValidator(_folder)] = Field(
        default_factory=default_journal_dir,
        validation_alias=JOURNAL_DIR,
        description="the folder of journals: a call's events before they are published. A worker that "
        "cannot write it exits with 2, and is unready when that happens later",
    )
    agent_name: Text | None = Field(
        None,
        validation_alias="ANTIPHON_AGENT_NAME",
        description="the name that it registers under at LiveKit, as in session-api: it takes only jobs of "
        "its own [deployment](docs/reference/glossary.md#calls). When not set, `antiphon-` and the "
        "deployment's id",
    )
    load_threshold: Annotated[float, AfterValidator(_threshold)] = Field(
        0.7,
        validation_alias="ANTIPHON_AGENT_LOAD_THRESHOLD",
        description="the load above which calls are refused, 0 to 1, or `inf`; the embedded stack sets `inf`",
    )
    calls: int | None = Field(
        None,
        ge=1,
        le=100_000,
        validation_alias="ANTIPHON_AGENT_CALLS",
        description="calls at once, above which the worker refuses calls, whatever its load; when not set, "
        "only the load decides. An idle worker accepts as many calls at the same moment as it has idle "
        "processes: [scale](docs/how-to/scale-each-service.md#agent-workers-by-calls)",
    )
    pod_name: Annotated[str | None, AfterValidator(_pod)] = Field(
        None,
        validation_alias="ANTIPHON_POD_NAME",
        description="the name of its Kubernetes pod, which its heartbeats tell",
    )
    idle_processes: int = Field(
        1,
        ge=0,
        le=64,
        validation_alias="ANTIPHON_AGENT_IDLE_PROCESSES",
        description="preloaded idle processes",
    )
    health_host: Text = Field(
        "127.0.0.1",
        validation_alias="ANTIPHON_AGENT_HEALTH_HOST",
        description="the address that its health routes bind",
    )
    health_port: Port = Field(
        8003, validation_alias="ANTIPHON_AGENT_HEALTH_PORT", description="the port of its health routes"
    )
    drain_timeout_seconds: int = Field(
        60,
        ge=1,
        le=86_400,
        validation_alias="ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS",
        description="how long running calls may continue after SIGTERM; the embedded stack sets 5",
    )
    assignment_timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=300,
        validation_alias="ANTIPHON_AGENT_PATIENCE_SECONDS",
        description="how long a call waits for the broker to return its session and flow",
    )
    tools_path: Annotated[str | None, BeforeValidator(_folder)] = Field(
        None,
        validation_alias="ANTIPHON_AGENT_TOOLS_PATH",
        description="folders with [tools in Python](docs/how-to/give-an-agent-tools.md#in-python) of your "
        "own, separated by `:`; they are searched after all installed modules",
    )
    mcp_commands: bool | None = Field(
        None,
        validation_alias="ANTIPHON_AGENT_MCP_COMMANDS",
        description="whether an MCP server of a flow may be a `command`, which [runs as the user of the "
        "worker](docs/how-to/manage-api-keys.md#who-may-publish-flows). When not set: in flows that were "
        "published from files (`publish-flows`), not in those that came over HTTP; `true`: in all; `false`: "
        "in none. The embedded stack sets `true`",
    )

    @property
    def recorder(self) -> RecorderSettings:
        """The settings of the recorder."""
        return RecorderSettings(
            nats_url=self.nats_url,
            journal_dir=self.journal_dir,
            nats_creds=self.nats_creds,
            nats_user=self.nats_user,
            nats_password=self.nats_password,
            nats_ca=self.nats_ca,
            nats_cert=self.nats_cert,
            nats_key=self.nats_key,
            nats_url_file=self.nats_url_file,
            nats_user_file=self.nats_user_file,
            nats_password_file=self.nats_password_file,
        )
