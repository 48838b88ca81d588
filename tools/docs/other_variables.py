"""Variables that no settings class reads, by the place of their rows on the page of settings."""

from tools.docs.variable import SERVICES, Variable

from antiphon.agent_worker.providers.openai_deepgram import plugin_entries
from antiphon.agent_worker.semantic_turns import PRELOAD
from antiphon.agent_worker.tools.secrets import PREFIX
from antiphon.chassis.telemetry import ENDPOINTS

WORKER = frozenset({"agent-worker"})
KEYS = tuple(dict.fromkeys(entry.key for entry in plugin_entries() if entry.key))

OTHERS: dict[str, tuple[Variable, ...]] = {
    "OpenTelemetry": (
        Variable(
            names=ENDPOINTS,
            default="none",
            allowed="`http` or `https` URL",
            readers=SERVICES,
            description="where traces are sent, as OTLP over HTTP; when none is set, no traces leave the "
            "process. The SDK reads its other `OTEL_EXPORTER_OTLP_…` variables, such as that of headers: "
            "[see traces](docs/how-to/see-traces.md)",
        ),
        Variable(
            names=("OTEL_TRACES_EXPORTER",),
            default="none",
            allowed="`otlp`, `console`, `none`",
            readers=SERVICES,
            description="what exports traces: when not set, `otlp` if there is an endpoint. Another value "
            "ends the process with code 2",
        ),
        Variable(
            names=("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
            default="none",
            allowed="as OpenTelemetry has it",
            readers=SERVICES,
            description="which new traces are recorded, such as `parentbased_traceidratio` and `0.01`",
        ),
        Variable(
            names=(
                "OTEL_EXPORTER_OTLP_TIMEOUT",
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
                "OTEL_BSP_SCHEDULE_DELAY",
            ),
            default="none",
            allowed="as OpenTelemetry has it",
            readers=SERVICES,
            description="how long an export may take, and how often there is one; the SDK reads its other "
            "`OTEL_BSP_…` variables, too",
        ),
        Variable(
            names=("OTEL_METRICS_EXPORTER",),
            default="`none`",
            allowed="`otlp`, `none`",
            readers=SERVICES,
            description="`otlp` sends [metrics](docs/reference/metrics.md) by OTLP too; `/metrics` is there "
            "in any case. Another value ends the process with code 2",
        ),
        Variable(
            names=("OTEL_SERVICE_NAME",),
            default="the service's name",
            allowed="text",
            readers=SERVICES,
            description="the name of the service in traces",
        ),
        Variable(
            names=("OTEL_SDK_DISABLED",),
            default="`false`",
            allowed="`true`, `false`",
            readers=SERVICES,
            description="`true` turns OpenTelemetry off",
        ),
    ),
    "certificates": (
        Variable(
            names=("SSL_CERT_FILE",),
            default="the system's",
            allowed="path",
            readers=frozenset({"session-api", "agent-worker", "webhook-ingest"}),
            description="OpenSSL's variable: a PEM file with all authorities to trust, for a "
            "[private one of LiveKit](docs/how-to/encrypt-connections.md#livekit)",
        ),
    ),
    "logins": (
        Variable(
            names=("ANTIPHON_ROLE_PASSWORDS",),
            default="none",
            allowed="JSON",
            readers=frozenset({"persistence"}),
            secret=True,
            description='the passwords of logins that `roles` makes, as `{"NAME": "…"}`, when it gets no '
            "file with them",
        ),
    ),
    "agent-secrets": (
        Variable(
            names=(f"{PREFIX}<NAME>",),
            default="none",
            allowed="text",
            readers=WORKER,
            secret=True,
            description="the secret `{secret.NAME}` of a flow: a key of a provider, a header of a "
            "[tool](docs/how-to/give-an-agent-tools.md#secrets); needed where flows are checked, too. "
            "`export` it before `make up`; a stack that runs takes it after `make down`",
        ),
        Variable(
            names=KEYS,
            default="none",
            allowed="text",
            readers=WORKER,
            secret=True,
            description="the key of a [provider](docs/reference/providers.md#keys); a flow that uses the "
            "provider is refused without it",
        ),
        Variable(
            names=(f"{PREFIX}<NAME>_FILE", *(f"{key}_FILE" for key in KEYS)),
            default="none",
            allowed="path",
            readers=WORKER,
            description="a file with it, read at the start of each call",
        ),
        Variable(
            names=(PRELOAD,),
            default="`1` if a published flow has `detection: semantic`, else `0`",
            allowed="`0`, `1`",
            readers=WORKER,
            description="whether all calls share one [model of "
            "turns](docs/how-to/take-turns.md#the-model-of-semantic), which takes 243 MB; with `0` a call "
            "that needs it loads its own",
        ),
    ),
}
