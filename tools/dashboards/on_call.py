"""The dashboard of the on-call: is anything broken for callers, which part, since when, and what to do."""

from tools.dashboards.panels import SERVICES, Dashboard, Panel, Row
from tools.dashboards.queries import faults

FIRING = 'ALERTS{alertname=~"Antiphon.*", alertstate="firing"}'
CREATES = 'http_server_request_duration_seconds_count{http_request_method="POST", http_route="/v1/sessions"'
FAILED = f'{CREATES}, http_response_status_code=~"5.."'

CALLERS = (
    Panel(
        "Calls are broken",
        "How many critical alerts fire. 0: nothing that callers notice, and nothing that loses their record.",
        ((f'count({FIRING[:-1]}, severity="critical"}}) or vector(0)', ""),),
        kind="number",
        width=4,
        red=1,
    ),
    Panel(
        "Warnings",
        "How many other alerts fire: they become a fault of calls if nobody acts.",
        ((f'count({FIRING[:-1]}, severity="warning"}}) or vector(0)', ""),),
        kind="number",
        width=4,
        amber=1,
    ),
    Panel(
        "Creates refused by an error",
        "The part of POST /v1/sessions that got a 5xx, in five minutes.",
        ((f"(sum(rate({FAILED}}}[5m])) or vector(0)) / sum(rate({CREATES}}}[5m]))", ""),),
        unit="percentunit",
        kind="number",
        width=4,
        amber=0.001,
        red=0.0144,
        alerts=("AntiphonHttpErrors",),
        none="no creates",
    ),
    Panel(
        "Waiting for the agent",
        "From the request to the end of the greeting, 95 % of the calls of ten minutes.",
        (("antiphon:call_time_to_ready_seconds:p95_10m", ""),),
        unit="s",
        kind="number",
        width=4,
        amber=10,
        red=15,
        alerts=("AntiphonTimeToReadyHigh",),
        none="no calls",
    ),
    Panel(
        "Full",
        "The active calls, of those that all workers may have. At 100 % new callers get no agent.",
        (("antiphon:calls:capacity_used", ""),),
        unit="percentunit",
        kind="number",
        width=4,
        amber=0.85,
        red=1,
        alerts=("AntiphonCapacityLow", "AntiphonNoCapacity"),
        none="no workers",
    ),
    Panel(
        "Calls now",
        "The calls that agents are in.",
        (("sum(antiphon_worker_calls)", ""),),
        kind="number",
        width=4,
        none="no workers",
    ),
)
WHICH = (
    Panel(
        "What fires, in which part, since when",
        "The alerts that fire. A click on a name opens its page: what it means, how to look, what to do.",
        ((f"ALERTS_FOR_STATE * 1000 and ignoring (alertstate) {FIRING}", ""),),
        kind="alerts",
        width=14,
        none="nothing fires",
    ),
    Panel(
        "Replicas that answer",
        "The replicas of each service that answer Prometheus. A service with none has stopped.",
        ((f'sum by (job) (up{{job=~"{SERVICES}"}})', "{{job}}"),),
        width=10,
        alerts=("AntiphonServiceDown", "AntiphonReplicaDown"),
    ),
    Panel(
        "Replicas that are not ready",
        "How many replicas of each service run, with a check of `/health/ready` that fails.",
        (("count by (job) (antiphon_ready == 0) or 0 * count by (job) (antiphon_ready)", "{{job}}"),),
        red=1,
        alerts=("AntiphonNotReady",),
    ),
)
PARTS = (
    Panel(
        "API and webhooks: errors",
        "The part of the requests of each service that got a 5xx, in five minutes.",
        (("job:http_server_errors:ratio_rate5m", "{{job}}"),),
        unit="percentunit",
        red=0.0144,
        alerts=("AntiphonHttpErrors", "AntiphonHttpErrorsSlow"),
    ),
    Panel(
        "Broker: replicas without a connection",
        "How many replicas of each service have no connection to NATS.",
        (("sum by (job) (1 - antiphon_bus_connected)", "{{job}}"),),
        red=1,
        alerts=("AntiphonBusDisconnected",),
    ),
    Panel(
        "Broker: publishes that fail",
        "The part of the publishes of each service that the broker did not store, in five minutes.",
        (("job:antiphon_publish_errors:ratio_rate5m", "{{job}}"),),
        unit="percentunit",
        red=0.05,
        alerts=("AntiphonPublishFailing",),
    ),
    Panel(
        "Agents: calls that end by a fault",
        "The part of the calls of 15 minutes that ended by a fault of the agent or of the platform.",
        ((faults('fault=~"agent|platform"'), "{{fault}}"),),
        unit="percentunit",
        red=0.05,
        alerts=("AntiphonCallsEndByFault", "AntiphonAgentJobsFailing", "AntiphonRedispatches"),
    ),
    Panel(
        "Agents: the oldest event that is not stored",
        "How old the oldest event is that waits on the disk of each worker for the broker.",
        (("antiphon_outbox_age_seconds", "{{instance}}"),),
        unit="s",
        red=60,
        alerts=("AntiphonOutboxOld", "AntiphonEventsNotPublished"),
    ),
    Panel(
        "Agents: turn latency by stage",
        "The time of each stage of an answer, 95 % of the turns of 15 minutes.",
        (("antiphon:turn_latency_seconds:p95_15m", "{{stage}}"),),
        unit="s",
        amber=2.5,
        red=4,
        alerts=("AntiphonTurnLatencyHigh", "AntiphonAgentErrors"),
    ),
    Panel(
        "Log: events that wait",
        "The events on the stream that are not in the log yet, of all partitions.",
        (("antiphon:ingest_backlog:sum", "all partitions"),),
        red=5000,
        alerts=("AntiphonBacklogGrowing", "AntiphonIngestStuck", "AntiphonIngestLag"),
    ),
    Panel(
        "Log: partitions without ingest",
        "Partitions that wait for an operator, and those of the 16 that no replica has.",
        (
            ("sum(max by (partition) (antiphon_ingest_stopped))", "stopped"),
            ("16 - sum by (group) (antiphon_leases_held)", "without an owner: {{group}}"),
        ),
        red=1,
        alerts=("AntiphonIngestStopped", "AntiphonLeasesNotHeld", "AntiphonDeadLetters"),
    ),
    Panel(
        "Views: behind the log",
        "How far each view is behind the log, in its slowest partition.",
        (("max by (projection) (antiphon_projection_lag_seconds)", "{{projection}}"),),
        unit="s",
        red=30,
        alerts=("AntiphonProjectionLag", "AntiphonProjectionStalled"),
    ),
)

ON_CALL = Dashboard(
    "antiphon-on-call",
    "Antiphon: on call",
    "From the top: is anything broken for callers now, which part, since when, what to do.",
    (
        Row("Is anything broken for callers now?", CALLERS),
        Row("Which part, since when, and what to do", WHICH),
        Row("Part by part: the links of a panel say what to do", PARTS),
    ),
    filtered=False,
    since="now-1h",
)
