"""When each alert fires and when it does not: series as promtool writes them, 15 s apart."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """Series with which an alert fires at a minute, and others with which it does not."""

    minute: int
    fires: dict[str, str]
    quiet: dict[str, str]


def always(value: float) -> str:
    """Return a series that stays at a value for twelve hours."""
    return f"{value}x2880"


def growing(step: float, start: float = 0) -> str:
    """Return a series that grows by this much every 15 s, for twelve hours."""
    return f"{start}+{step}x2880"


UP = {
    f'up{{job="{job}", instance="one"}}': always(1) for job in ("session-api", "persistence", "agent-worker")
}
REQUESTS = 'http_server_request_duration_seconds_count{{job="session-api", http_response_status_code="{}"}}'
CREATES = (
    'http_server_request_duration_seconds_bucket{{job="session-api", http_request_method="POST", '
    'http_route="/v1/sessions", http_response_status_code="201", le="{}"}}'
)
PUBLISHES = (
    'messaging_client_operation_duration_seconds_count{job="session-api", messaging_operation_name="publish"'
)
ENDED = 'antiphon_calls_ended_total{{reason="error", fault="{}"}}'


POOL = 'job="a", instance="one", db_client_connection_pool_name="a"'
OTHER_POOL = 'job="a", instance="one", db_client_connection_pool_name="b"'
USED = 'db_client_connection_state="used"'


def errors(per_thousand: float) -> dict[str, str]:
    """Return requests of which this many of a thousand get a 500."""
    return {REQUESTS.format(200): growing(1000 - per_thousand), REQUESTS.format(500): growing(per_thousand)}


def below(metric: str, labels: str, bound: float, part: float) -> dict[str, str]:
    """Return a histogram of which a part is below a bound, and the rest above it."""
    comma = ", " if labels else ""
    return {
        f'{metric}_bucket{{{labels}{comma}le="{bound}"}}': growing(100 * part),
        f'{metric}_bucket{{{labels}{comma}le="{2 * bound}"}}': growing(100),
        f'{metric}_bucket{{{labels}{comma}le="+Inf"}}': growing(100),
    }


CASES: dict[str, Case] = {
    "AntiphonServiceDown": Case(
        2,
        {**UP, 'up{job="persistence", instance="one"}': always(0)},
        {**UP, 'up{job="persistence", instance="two"}': always(0)},  # one of two answers
    ),
    "AntiphonReplicaDown": Case(
        6,
        {**UP, 'up{job="persistence", instance="two"}': always(0)},
        {**UP, 'up{job="persistence", instance="two"}': "0x8 1x40"},  # a restart
    ),
    "AntiphonBusDisconnected": Case(
        2, {'antiphon_bus_connected{job="a"}': always(0)}, {'antiphon_bus_connected{job="a"}': "1 0x2 1x40"}
    ),
    "AntiphonPublishFailing": Case(
        10,
        {PUBLISHES + "}": growing(90), PUBLISHES + ', error_type="TimeoutError"}': growing(10)},
        {PUBLISHES + "}": growing(99), PUBLISHES + ', error_type="TimeoutError"}': growing(1)},
    ),
    "AntiphonDatabasePoolExhausted": Case(
        6,
        {
            f"db_client_connection_count{{{POOL}, {USED}}}": always(10),
            f"db_client_connection_max{{{POOL}}}": always(10),
            # another pool of the process has room
            f"db_client_connection_count{{{OTHER_POOL}, {USED}}}": always(1),
            f"db_client_connection_max{{{OTHER_POOL}}}": always(10),
        },
        {
            # a pool that has opened one connection, and may open nine more: an export that takes long
            f"db_client_connection_count{{{POOL}, {USED}}}": always(1),
            f'db_client_connection_count{{{POOL}, db_client_connection_state="idle"}}': always(0),
            f"db_client_connection_max{{{POOL}}}": always(10),
        },
    ),
    "AntiphonNotReady": Case(
        5,
        {'antiphon_ready{job="session-api", instance="one"}': always(0)},
        {
            'antiphon_ready{job="session-api", instance="one"}': "0x8 1x200",  # it starts
            'antiphon_ready{job="agent-worker", instance="one"}': always(0),
            'antiphon_worker_draining{job="agent-worker", instance="one"}': always(1),
        },
    ),
    "AntiphonHttpErrors": Case(70, errors(20), errors(10)),
    "AntiphonHttpErrorsSlow": Case(400, errors(8), errors(4)),
    "AntiphonCreateSlow": Case(
        20,
        {
            CREATES.format(2.5): growing(90),
            CREATES.format(5): growing(100),
            CREATES.format("+Inf"): growing(100),
        },
        {
            CREATES.format(2.5): growing(96),
            CREATES.format(5): growing(100),
            CREATES.format("+Inf"): growing(100),
        },
    ),
    "AntiphonWebhooksRefused": Case(
        12,
        {'antiphon_webhooks_total{outcome="rejected"}': growing(2)},
        {
            'antiphon_webhooks_total{outcome="rejected"}': "0x20 1x2880",
            'antiphon_webhooks_total{outcome="published"}': growing(50),
        },
    ),
    "AntiphonCapacityLow": Case(
        7,
        {"antiphon_fleet_calls": always(90), "antiphon_fleet_capacity": always(100)},
        # without fleet, the workers; one that drains does not count
        {
            'antiphon_worker_calls{instance="a"}': always(5),
            'antiphon_worker_capacity{instance="a"}': always(10),
            'antiphon_worker_draining{instance="a"}': always(0),
            'antiphon_worker_calls{instance="b"}': always(10),
            'antiphon_worker_capacity{instance="b"}': always(10),
            'antiphon_worker_draining{instance="b"}': always(1),
        },
    ),
    "AntiphonNoCapacity": Case(
        3,
        {
            "antiphon_fleet_workers": always(0),
            "antiphon_fleet_capacity": always(0),
            "antiphon_fleet_calls": always(0),
        },
        # workers without a limit
        {
            "antiphon_fleet_workers": always(2),
            "antiphon_fleet_capacity": always(0),
            "antiphon_fleet_calls": always(9),
        },
    ),
    "AntiphonAgentJobsFailing": Case(
        20,
        {
            'antiphon_worker_jobs_total{outcome="ended"}': growing(9),
            'antiphon_worker_jobs_total{outcome="failed"}': growing(1),
        },
        {
            'antiphon_worker_jobs_total{outcome="ended"}': growing(99),
            'antiphon_worker_jobs_total{outcome="failed"}': growing(1),
        },
    ),
    "AntiphonCallsEndByFault": Case(
        25,
        {ENDED.format("none"): growing(9), ENDED.format("platform"): growing(1)},
        {ENDED.format("none"): growing(9), ENDED.format("caller"): growing(1)},
    ),
    "AntiphonTimeToReadyHigh": Case(
        25,
        below("antiphon_call_time_to_ready_seconds", "", 15, 0.9),
        below("antiphon_call_time_to_ready_seconds", "", 7.5, 0.9),  # a greeting of seven seconds
    ),
    "AntiphonTurnLatencyHigh": Case(
        35,
        below("antiphon_turn_latency_seconds", 'stage="tts"', 1.5, 0.9),
        below("antiphon_turn_latency_seconds", 'stage="e2e"', 1.5, 0.9),
    ),
    "AntiphonRedispatches": Case(
        16,
        {"antiphon_agents_redispatched_total": "0x20 4x100"},
        {"antiphon_agents_redispatched_total": "0x20 1x100"},
    ),
    "AntiphonAgentErrors": Case(
        20,
        {"antiphon_agent_errors_total": growing(3), "antiphon_turns_total": growing(10)},
        {"antiphon_agent_errors_total": growing(1), "antiphon_turns_total": growing(10)},
    ),
    "AntiphonOutboxOld": Case(
        6, {"antiphon_outbox_age_seconds": growing(15)}, {"antiphon_outbox_age_seconds": always(20)}
    ),
    "AntiphonOutboxGrowing": Case(
        15, {"antiphon_outbox_depth": growing(100)}, {"antiphon_outbox_depth": "5000-10x480"}
    ),
    "AntiphonEventsNotPublished": Case(
        10,
        {'antiphon_outbox_events_total{outcome="lost"}': "0x20 1x100"},
        {'antiphon_outbox_events_total{outcome="published"}': growing(100)},
    ),
    "AntiphonIngestStopped": Case(
        3,
        {'antiphon_ingest_stopped{partition="3", instance="a"}': always(1)},
        {'antiphon_ingest_stopped{partition="3", instance="a"}': always(0)},
    ),
    "AntiphonIngestLag": Case(
        10,
        {
            'antiphon_ingest_lag_seconds{partition="3"}': always(12),
            "antiphon_ingest_events_total": growing(10),
        },
        # the last value of a night without calls
        {
            'antiphon_ingest_lag_seconds{partition="3"}': always(12),
            "antiphon_ingest_events_total": always(10),
        },
    ),
    "AntiphonBacklogGrowing": Case(
        60,
        {'antiphon_ingest_backlog{partition="3"}': growing(100)},
        {'antiphon_ingest_backlog{partition="3"}': "90000-10x2880"},  # it catches up
    ),
    "AntiphonIngestStuck": Case(
        8,
        {'antiphon_ingest_backlog{partition="3"}': always(1), "antiphon_ingest_events_total": always(10)},
        {'antiphon_ingest_backlog{partition="3"}': always(1), "antiphon_ingest_events_total": growing(10)},
    ),
    "AntiphonDeadLetters": Case(
        10,
        {'antiphon_ingest_dead_letters_total{reason="malformed"}': "0x20 1x100"},
        {'antiphon_ingest_dead_letters_total{reason="malformed"}': always(7)},
    ),
    "AntiphonLeasesNotHeld": Case(
        3,
        {'antiphon_leases_held{group="ingest", instance="a"}': always(15)},
        {
            'antiphon_leases_held{group="ingest", instance="a"}': "16 15x2 8x100",
            'antiphon_leases_held{group="ingest", instance="b"}': "0x3 8x100",
        },
    ),
    "AntiphonProjectionLag": Case(
        8,
        {'antiphon_projection_lag_seconds{projection="turns", partition="3"}': always(40)},
        {'antiphon_projection_lag_seconds{projection="turns", partition="3"}': "40x8 0x100"},
    ),
    "AntiphonProjectionStalled": Case(
        3,
        {'antiphon_projection_stalled{projection="turns", partition="3"}': always(1)},
        {'antiphon_projection_stalled{projection="turns", partition="3"}': always(0)},
    ),
}
