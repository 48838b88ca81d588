"""The dashboard of the platform as a whole: traffic, errors and times of each service, and what they use."""

from tools.dashboards.panels import SERVICES, Dashboard, Panel, Row
from tools.dashboards.queries import HERE, INTERVAL, quantile, rate

REQUESTS = "http_server_request_duration_seconds"
PUBLISHES = "messaging_client_operation_duration_seconds"
BY_ROUTE = "http_request_method, http_route"
FAILED = 'http_response_status_code=~"[45].."'


HTTP = (
    Panel(
        "Requests",
        "Requests a second by route; `unmatched` are paths that do not exist.",
        ((rate(f"{REQUESTS}_count", f"job, {BY_ROUTE}"), "{{http_request_method}} {{http_route}}"),),
        unit="reqps",
    ),
    Panel(
        "Errors",
        "Responses a second with 4xx and 5xx, by route and code.",
        (
            (
                rate(f"{REQUESTS}_count", "http_route, http_response_status_code", also=FAILED),
                "{{http_response_status_code}} {{http_route}}",
            ),
        ),
        unit="reqps",
        alerts=("AntiphonHttpErrors", "AntiphonHttpErrorsSlow", "AntiphonWebhooksRefused"),
        none="no errors",
    ),
    Panel(
        "Duration, 95 %",
        "The time within which 95 % of the requests were answered. A stream lasts as long as it is open.",
        ((quantile(0.95, REQUESTS, BY_ROUTE), "{{http_request_method}} {{http_route}}"),),
        unit="s",
        alerts=("AntiphonCreateSlow",),
    ),
    Panel(
        "Problems",
        "Responses a second by the type of the problem, as the reference of the API has them.",
        ((rate("antiphon_http_problems_total", "type"), "{{type}}"),),
        unit="reqps",
        none="no problems",
    ),
    Panel(
        "Open connections and streams",
        "Connections of clients, how many of them are streams of events, and requests in progress.",
        (
            (f"sum by (job) (antiphon_http_connections{{{HERE}}})", "{{job}} connections"),
            (f"sum by (job) (antiphon_http_streams{{{HERE}}})", "{{job}} streams"),
            (f"sum by (job) (http_server_active_requests{{{HERE}}})", "{{job}} requests"),
        ),
    ),
    Panel(
        "Webhooks of LiveKit",
        "Webhooks a second, by what became of them; `rejected` ones got a problem.",
        ((rate("antiphon_webhooks_total", "outcome"), "{{outcome}}"),),
        unit="reqps",
        alerts=("AntiphonWebhooksRefused",),
    ),
)
BROKER = (
    Panel(
        "Publishes",
        "Messages a second that each service publishes to the streams of NATS.",
        ((rate(f"{PUBLISHES}_count", "job"), "{{job}}"),),
        unit="ops",
    ),
    Panel(
        "Publish time, 95 %",
        "Within which time the broker has stored 95 % of the messages.",
        ((quantile(0.95, PUBLISHES, "job"), "{{job}}"),),
        unit="s",
    ),
    Panel(
        "Publishes that failed",
        "Messages a second that the broker did not store, by the class of the error.",
        ((rate(f"{PUBLISHES}_count", "job, error_type", also='error_type!=""'), "{{job}} {{error_type}}"),),
        unit="ops",
        alerts=("AntiphonPublishFailing",),
        none="none",
    ),
    Panel(
        "Connections to NATS that were lost",
        "How often each service has connected again.",
        ((f"sum by (job) (increase(antiphon_bus_reconnects_total{{{HERE}}}{INTERVAL}))", "{{job}}"),),
        alerts=("AntiphonBusDisconnected",),
        none="none",
    ),
    Panel(
        "Statements of Postgres, 95 %",
        "Within which time 95 % of the statements ended, by what they do.",
        (
            (
                quantile(0.95, "db_client_operation_duration_seconds", "job, db_operation_name"),
                "{{job}} {{db_operation_name}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Connections to Postgres",
        "The connections of the pools, in use and idle, and how many they may have.",
        (
            (
                f"sum by (job, db_client_connection_state) (db_client_connection_count{{{HERE}}})",
                "{{job}} {{db_client_connection_state}}",
            ),
            (f"sum by (job) (db_client_connection_max{{{HERE}}})", "{{job}} at most"),
        ),
        alerts=("AntiphonDatabasePoolExhausted",),
    ),
)
PROCESSES = (
    Panel(
        "Replicas",
        "The replicas of each service that answer Prometheus.",
        ((f'sum by (job) (up{{job=~"{SERVICES}", {HERE}}})', "{{job}}"),),
        alerts=("AntiphonServiceDown", "AntiphonReplicaDown"),
    ),
    Panel(
        "Processor time",
        "Seconds of a processor that each process uses in a second; the processes of calls are not in it.",
        ((f"rate(process_cpu_seconds_total{{{HERE}}}{INTERVAL})", "{{job}} {{instance}}"),),
        unit="s",
    ),
    Panel(
        "Memory",
        "Resident memory of each process; the processes of calls are not in it.",
        ((f"process_resident_memory_bytes{{{HERE}}}", "{{job}} {{instance}}"),),
        unit="bytes",
    ),
    Panel(
        "Open files",
        "The part of the files and connections that each process may open and has open.",
        ((f"process_open_fds{{{HERE}}} / process_max_fds{{{HERE}}}", "{{job}} {{instance}}"),),
        unit="percentunit",
        amber=0.7,
        red=0.9,
    ),
    Panel(
        "Garbage collections",
        "Full collections of Python's garbage collector a minute; each holds up the process.",
        (
            (
                f'60 * rate(python_gc_collections_total{{{HERE}, generation="2"}}{INTERVAL})',
                "{{job}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "Age",
        "For how long each process has been running: a line that falls to zero is a restart.",
        ((f"time() - process_start_time_seconds{{{HERE}}}", "{{job}} {{instance}}"),),
        unit="s",
    ),
)

OVERVIEW = Dashboard(
    "antiphon-overview",
    "Antiphon: overview",
    "Requests, errors and times of each service, what it sees of NATS and Postgres, and what it uses.",
    (
        Row("HTTP: requests, errors, durations", HTTP),
        Row("NATS and Postgres, as the services see them", BROKER),
        Row("Processes", PROCESSES),
    ),
)
