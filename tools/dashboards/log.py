"""The dashboard of the log: events from journals through the stream into the log and the views."""

from tools.dashboards.panels import Dashboard, Panel, Row
from tools.dashboards.queries import HERE, quantile, rate

OUTBOX = (
    Panel(
        "Events that wait in journals",
        "Events of the jobs of each worker that the broker has not stored yet.",
        ((f"antiphon_outbox_depth{{{HERE}}}", "{{instance}}"),),
        red=1000,
        alerts=("AntiphonOutboxGrowing",),
    ),
    Panel(
        "The oldest of them",
        "The age of the oldest event that the broker has not stored.",
        ((f"antiphon_outbox_age_seconds{{{HERE}}}", "{{instance}}"),),
        unit="s",
        red=60,
        alerts=("AntiphonOutboxOld",),
    ),
    Panel(
        "Journals on disk",
        "The bytes of the journals of each worker.",
        ((f"antiphon_outbox_size_bytes{{{HERE}}}", "{{instance}}"),),
        unit="bytes",
        alerts=("AntiphonOutboxGrowing",),
    ),
    Panel(
        "Events of workers",
        "Events a second that workers published, and that were refused or lost.",
        ((rate("antiphon_outbox_events_total", "outcome"), "{{outcome}}"),),
        unit="ops",
        alerts=("AntiphonEventsNotPublished",),
    ),
)
INGEST = (
    Panel(
        "Events committed",
        "Events a second that were stored, and that were there already.",
        ((rate("antiphon_ingest_events_total", "outcome"), "{{outcome}}"),),
        unit="ops",
        alerts=("AntiphonIngestStuck",),
    ),
    Panel(
        "Events that wait on the stream",
        "Messages that are on the stream and not in the log, by partition.",
        ((f"max by (partition) (antiphon_ingest_backlog{{{HERE}}})", "{{partition}}"),),
        red=5000,
        alerts=("AntiphonBacklogGrowing", "AntiphonIngestStuck"),
    ),
    Panel(
        "Lag of ingest",
        "From the arrival of an event on the stream to its commit; it keeps its value while nothing arrives.",
        ((f"max by (partition) (antiphon_ingest_lag_seconds{{{HERE}}})", "{{partition}}"),),
        unit="s",
        red=10,
        alerts=("AntiphonIngestLag",),
    ),
    Panel(
        "Commit time",
        "How long the commit of a batch takes.",
        (
            (quantile(0.5, "antiphon_ingest_commit_duration_seconds"), "50 %"),
            (quantile(0.95, "antiphon_ingest_commit_duration_seconds"), "95 %"),
        ),
        unit="s",
        alerts=("AntiphonIngestLag",),
    ),
    Panel(
        "Dead letters",
        "Messages that were set aside in an hour, by the reason.",
        ((f"sum by (reason) (increase(antiphon_ingest_dead_letters_total{{{HERE}}}[1h]))", "{{reason}}"),),
        alerts=("AntiphonDeadLetters",),
        none="none",
    ),
    Panel(
        "Partitions that are stopped",
        "Partitions that wait for an operator.",
        ((f"max by (partition) (antiphon_ingest_stopped{{{HERE}}}) > 0", "{{partition}}"),),
        red=1,
        alerts=("AntiphonIngestStopped",),
        none="none",
    ),
)
VIEWS = (
    Panel(
        "Lag of views",
        "How far each view is behind the log, in its slowest partition.",
        ((f"max by (projection) (antiphon_projection_lag_seconds{{{HERE}}})", "{{projection}}"),),
        unit="s",
        red=30,
        alerts=("AntiphonProjectionLag",),
    ),
    Panel(
        "Fold time, 95 %",
        "How long 95 % of the batches of a view take.",
        ((quantile(0.95, "antiphon_projection_fold_duration_seconds", "projection"), "{{projection}}"),),
        unit="s",
        alerts=("AntiphonProjectionLag",),
    ),
    Panel(
        "Views that are stalled",
        "Partitions of views that wait for an operator.",
        (
            (
                f"max by (projection, partition) (antiphon_projection_stalled{{{HERE}}}) > 0",
                "{{projection}} {{partition}}",
            ),
        ),
        red=1,
        alerts=("AntiphonProjectionStalled",),
        none="none",
    ),
    Panel(
        "Partitions by replica",
        "How many of the 16 partitions of ingest and of each view a replica has.",
        ((f"antiphon_leases_held{{{HERE}}}", "{{group}} {{instance}}"),),
        width=16,
        alerts=("AntiphonLeasesNotHeld",),
    ),
    Panel(
        "Partitions that are held",
        "The partitions of each group that all replicas together hold: 16, or some have no owner.",
        (("sum by (group) (antiphon_leases_held)", "{{group}}"),),
        alerts=("AntiphonLeasesNotHeld",),
    ),
)

LOG = Dashboard(
    "antiphon-log",
    "Antiphon: log",
    "Events from the journals of workers through the stream into the log, and from the log into the views.",
    (
        Row("Outbox of agent workers", OUTBOX),
        Row("Ingest: from the stream into the log", INGEST),
        Row("Views: from the log", VIEWS),
    ),
)
