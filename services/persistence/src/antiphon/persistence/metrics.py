"""The metrics of persistence: ingest, the views, the leases, and the calls that the log tells of."""

from typing import Final

from antiphon.chassis.metrics import OTHER, AtMost, counter, gauge, histogram
from antiphon.contracts.events.session import CloseReason, FailureReason, FaultSide
from antiphon.contracts.subjects import PARTITIONS

PARTITION: Final = tuple(str(number) for number in range(PARTITIONS))
PROJECTION: Final = AtMost(30, "the names of the views")
GROUPS: Final = AtMost(40, "`ingest`, and `projection:` with the name and version of a view")

# Ingest

ingest_lag = gauge(
    "antiphon.ingest.lag",
    unit="s",
    description="Time from the arrival of the last message of a batch on the stream to its commit; it "
    "keeps its value while nothing arrives",
    labels={"partition": PARTITION},
)
backlog = gauge(
    "antiphon.ingest.backlog",
    unit="{event}",
    description="Messages of the stream that are not committed, or not yet acknowledged, asked of the broker "
    "every five seconds",
    labels={"partition": PARTITION},
)
commit_duration = histogram(
    "antiphon.ingest.commit.duration",
    description="Time of the commit of a batch of one partition, with its wait for other commits and "
    "its retries",
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
ingested = counter(
    "antiphon.ingest.events",
    unit="{event}",
    description="Valid events that were committed: new in the log (stored), or in it already (duplicate)",
    labels={"outcome": ("stored", "duplicate")},
)
DEAD_LETTER_REASONS: Final = (
    "malformed",  # no envelope, or a body that its type does not have
    "invalid",  # its place or its envelope is wrong
    "invalid_body",  # of a type that is known, as a client could have sent it
    "not_storable",  # Postgres refuses a value
    "internal",  # the validation failed
)
dead_letters = counter(
    "antiphon.ingest.dead_letters",
    unit="{message}",
    description="Messages that were set aside",
    labels={"reason": DEAD_LETTER_REASONS},
)
stopped = gauge(
    "antiphon.ingest.stopped",
    description="1 while ingest of a partition waits for an operator, else 0",
    labels={"partition": PARTITION},
)

# Views

projection_lag = gauge(
    "antiphon.projection.lag",
    unit="s",
    description="Time from the last folded event to its fold, or from the first event of a batch to the last "
    "attempt to fold it, recorded once a second; 0 when nothing is left",
    labels={"projection": PROJECTION, "partition": PARTITION},
)
stalled = gauge(
    "antiphon.projection.stalled",
    description="1 while a partition of a view waits for an operator, else 0",
    labels={"projection": PROJECTION, "partition": PARTITION},
)
fold_duration = histogram(
    "antiphon.projection.fold.duration",
    description="Time to fold a batch of events into a view and commit its rows",
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    labels={"projection": PROJECTION},
)
leases_held = gauge(
    "antiphon.leases.held",
    unit="{partition}",
    description="Partitions of a group that this replica has; the sum over the replicas is 16",
    labels={"group": GROUPS},
)

# Calls, once for each event that is new in the log

REASONS: Final = (*(reason.value for reason in CloseReason), *(reason.value for reason in FailureReason))
FAULTS: Final = tuple(side.value for side in FaultSide)
LEFT_REASONS: Final = (*(reason.value for reason in CloseReason), "replaced", "killed", OTHER)

calls_requested = counter(
    "antiphon.calls.requested",
    unit="{call}",
    description="Sessions that clients requested (session.requested)",
)
calls_adopted = counter(
    "antiphon.calls.adopted",
    unit="{call}",
    description="Sessions that a recorder began in a room that nobody had requested (session.adopted)",
)
calls_ended = counter(
    "antiphon.calls.ended",
    unit="{call}",
    description="Sessions that closed, as session.closed says; and that failed, with the fault `platform` "
    "if they were not dispatched, else `agent`",
    labels={"reason": REASONS, "fault": FAULTS},
)
time_to_ready = histogram(
    "antiphon.call.time_to_ready",
    description="Time from the request of a session to the end of its agent's greeting, as agent.ready says",
    bounds=(0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0),
)
call_duration = histogram(
    "antiphon.call.duration",
    description="Duration of sessions that closed, as session.closed says",
    bounds=(5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0),
)
STAGES: Final = {  # and the key in `metrics` of turn.saved
    "transcription": "transcription_delay",
    "end_of_turn": "end_of_turn_delay",
    "llm": "llm_node_ttft",
    "tts": "tts_node_ttfb",
    "e2e": "e2e_latency",
}
turn_latency = histogram(
    "antiphon.turn.latency",
    description="Parts of the time from the end of the caller's words to the first sound of the answer, "
    "and all of it (e2e), of turns that have them",
    bounds=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
    labels={"stage": tuple(STAGES)},
)
turns = counter(
    "antiphon.turns",
    unit="{turn}",
    description="Turns that were saved: whole, interrupted by the caller, or recovered from the journal "
    "of a killed job",
    labels={"outcome": ("completed", "interrupted", "recovered")},
)
agents_joined = counter(
    "antiphon.agents.joined", unit="{agent}", description="Agents that joined a session (agent.joined)"
)
agents_redispatched = counter(
    "antiphon.agents.redispatched",
    unit="{agent}",
    description="Of these, agents that joined a session in which another one had joined before: in "
    "place of one that was lost or has left, or beside it",
)
agents_left = counter(
    "antiphon.agents.left",
    unit="{agent}",
    description="Agents that left a session that went on, by the reason in agent.left",
    labels={"reason": LEFT_REASONS},
)
agent_errors = counter(
    "antiphon.agent.errors",
    unit="{error}",
    description="Errors of what agents depend on (agent.error), by whether the agent could go on",
    labels={"recoverable": ("true", "false")},
)
tool_duration = histogram(
    "antiphon.tool.duration",
    description="Duration of tool calls that have ended, as tool.completed says",
    bounds=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0),
    labels={"outcome": ("done", "error", "cancelled")},
)
