"""The dashboard of calls: how many, how they begin, how agents answer, how they end."""

from tools.dashboards.panels import Dashboard, Panel, Row
from tools.dashboards.queries import HERE, faults, quantile, rate


def _halves(histogram: str) -> tuple[tuple[str, str], ...]:
    """Return what half and 95 % of a histogram are below."""
    return (quantile(0.5, histogram), "50 %"), (quantile(0.95, histogram), "95 %")


TRAFFIC = (
    Panel(
        "Calls requested and ended",
        "Calls a minute that were requested, began in a room of an agent of your own, and ended.",
        (
            (rate("antiphon_calls_requested_total", minute=True), "requested"),
            (rate("antiphon_calls_adopted_total", minute=True), "adopted"),
            (rate("antiphon_calls_ended_total", minute=True), "ended"),
        ),
    ),
    Panel(
        "Calls and capacity",
        "The calls that workers have, and may have; a worker that drains takes none.",
        (
            (f"sum(antiphon_worker_calls{{{HERE}}})", "calls"),
            (f"sum(antiphon_worker_capacity{{{HERE}}})", "capacity"),
            (f"sum(antiphon_worker_draining{{{HERE}}})", "workers that drain"),
        ),
        alerts=("AntiphonCapacityLow", "AntiphonNoCapacity"),
    ),
    Panel(
        "The fleet",
        "Workers, calls and capacity, as the service fleet counts them by their heartbeats.",
        (
            (f"max(antiphon_fleet_workers{{{HERE}}})", "workers"),
            (f"max(antiphon_fleet_calls{{{HERE}}})", "calls"),
            (f"max(antiphon_fleet_capacity{{{HERE}}})", "capacity"),
        ),
        alerts=("AntiphonNoCapacity",),
        none="fleet does not run",
    ),
    Panel(
        "Time to ready",
        "From the request of a call to the end of the greeting of its agent.",
        _halves("antiphon_call_time_to_ready_seconds"),
        unit="s",
        amber=10,
        red=15,
        alerts=("AntiphonTimeToReadyHigh",),
    ),
    Panel(
        "Duration of calls",
        "How long the calls lasted that ended.",
        _halves("antiphon_call_duration_seconds"),
        unit="s",
    ),
    Panel(
        "How calls end",
        "Calls a minute that ended, by the reason.",
        ((rate("antiphon_calls_ended_total", "reason", minute=True), "{{reason}}"),),
    ),
)
ANSWERS = (
    Panel(
        "Turn latency by stage, 95 %",
        "The time of each stage of an answer: from the end of what the caller said (e2e is the whole).",
        ((quantile(0.95, "antiphon_turn_latency_seconds", "stage"), "{{stage}}"),),
        unit="s",
        amber=2.5,
        red=4,
        alerts=("AntiphonTurnLatencyHigh",),
    ),
    Panel(
        "Turn latency by stage, half",
        "The same, of half of the turns.",
        ((quantile(0.5, "antiphon_turn_latency_seconds", "stage"), "{{stage}}"),),
        unit="s",
        alerts=("AntiphonTurnLatencyHigh",),
    ),
    Panel(
        "Turns",
        "Turns a minute, by how they ended; a recovered one was completed from the journal of a killed job.",
        ((rate("antiphon_turns_total", "outcome", minute=True), "{{outcome}}"),),
    ),
    Panel(
        "Tools, 95 %",
        "Within which time 95 % of the calls of tools ended, by how they ended.",
        ((quantile(0.95, "antiphon_tool_duration_seconds", "outcome"), "{{outcome}}"),),
        unit="s",
        none="no tools were called",
    ),
)
FAULTS = (
    Panel(
        "Calls that end by a fault",
        "The part of the calls of 15 minutes that ended by a fault, by whose it was.",
        ((faults('fault!="none"', HERE), "{{fault}}"),),
        unit="percentunit",
        red=0.05,
        alerts=("AntiphonCallsEndByFault",),
        none="none",
    ),
    Panel(
        "Errors of agents",
        "Errors of recognisers, models, voices and tools a minute; a fallback may have taken over.",
        ((rate("antiphon_agent_errors_total", "recoverable", minute=True), "recoverable: {{recoverable}}"),),
        alerts=("AntiphonAgentErrors",),
        none="none",
    ),
    Panel(
        "Jobs of agents that ended",
        "Jobs a minute, by how their process ended.",
        ((rate("antiphon_worker_jobs_total", "outcome", minute=True), "{{outcome}}"),),
        alerts=("AntiphonAgentJobsFailing",),
    ),
    Panel(
        "Agents that joined and left",
        "Agents a minute that joined a call, that joined one that had an agent before, and that left one.",
        (
            (rate("antiphon_agents_joined_total", minute=True), "joined"),
            (rate("antiphon_agents_redispatched_total", minute=True), "joined again"),
            (rate("antiphon_agents_left_total", "reason", minute=True), "left: {{reason}}"),
        ),
        alerts=("AntiphonRedispatches",),
    ),
)

CALLS = Dashboard(
    "antiphon-calls",
    "Antiphon: calls",
    "How many calls there are, how long callers wait for the agent and its answers, and how calls end.",
    (
        Row("Calls", TRAFFIC),
        Row("Answers", ANSWERS),
        Row("Faults", FAULTS),
    ),
)
