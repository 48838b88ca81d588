"""Debian's Prometheus scrapes the real services during a call: what rules and dashboards ask for is there."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.alert_rules import alerts, rules
from tests.deploy.promql import OF_PROMETHEUS, reads
from tests.prometheus.programs import Programs
from tests.prometheus.server import Prometheus
from tools.dashboards.__main__ import GRAFANA

from antiphon.cli.embedded import EmbeddedStack

CALL_SECONDS = 240.0
LINES = "i would like to book a table for two|tomorrow at seven|yes please|thank you good bye"
OF_OTEL = "db_client_connection_count"
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}


def panels(pattern: str = "*.json") -> Iterator[dict[str, Any]]:
    """Yield the panels of dashboards."""
    for file in sorted(GRAFANA.glob(pattern)):
        yield from json.loads(file.read_text())["panels"]


def dashboard_queries() -> Iterator[str]:
    """Yield each query of the dashboards, with values of Grafana's variables."""
    for panel in panels():
        for target in panel.get("targets", ()):
            expression: str = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression


def status_of(url: str, body: bytes | None = None) -> int:
    """Return the status of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def used(stack: EmbeddedStack, prometheus: Prometheus, api_key: str) -> Prometheus:
    """Prometheus, after a call by voice, a request without a key and a webhook of a stranger."""
    addresses = stack.status().addresses
    prometheus.wait(lambda: prometheus.query("up == 1"), "a first scrape")
    environment = os.environ | {"ANTIPHON_API_URL": addresses.api_url, "ANTIPHON_API_KEY": api_key}
    done = subprocess.run(
        [Path(sys.executable).with_name("antiphon"), "call", "--ready-within", "120", "--say", LINES],
        env=environment, capture_output=True, text=True, timeout=CALL_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert status_of(f"{addresses.api_url}/v1/sessions") == 401
    assert status_of(f"{addresses.webhooks_url}/api/v1/webhooks/livekit", b"{}") == 401
    ended = "sum(antiphon_calls_ended_total) > 0 and sum(antiphon_worker_calls) == 0"
    prometheus.wait(lambda: prometheus.query(ended), "the end of the call in the log")
    for last in ("antiphon_http_problems_total", "antiphon:turn_latency_seconds:p95_15m >= 0"):
        prometheus.wait(partial(prometheus.query, last), last)
    return prometheus


def test_every_service_is_scraped(used: Prometheus, targets: Mapping[str, str]) -> None:
    found = used.ask("targets?state=active")["activeTargets"]

    assert {
        target["labels"]["job"]: (target["health"], target["lastError"]) for target in found
    } == dict.fromkeys(targets, ("up", ""))


def test_every_metric_that_a_rule_or_a_dashboard_names_has_series(used: Prometheus) -> None:
    expressions = [*(rule["expr"] for rule in rules()), *dashboard_queries()]
    names = {read.name for expression in expressions for read in reads(expression)}

    missing = {
        name for name in names - set(OF_PROMETHEUS) if not used.query(f"count({{__name__='{name}'}}) > 0")
    }

    assert missing == set()


def test_prometheus_answers_every_query_of_a_dashboard(used: Prometheus) -> None:
    answers = {query: used.query(query) for query in set(dashboard_queries())}

    assert len(answers) > 50
    with pytest.raises(AssertionError, match="parse error"):
        used.query("sum(up")


def test_promtool_has_nothing_to_say_about_the_metrics(
    used: Prometheus, programs: Programs, targets: Mapping[str, str]
) -> None:
    for target in targets.values():
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines(keepends=True)
        # promtool wants `_count` for histograms only; the name is OpenTelemetry's
        programs.check("check", "metrics", text="".join(each for each in lines if OF_OTEL not in each))


def test_every_rule_is_evaluated_without_an_error(used: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in used.ask("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else []

    found = used.wait(evaluated, "the evaluation of all rules")

    assert len(found) == len(list(rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []


def test_nothing_critical_fires_while_all_is_well(used: Prometheus) -> None:
    firing = {alert["labels"]["alertname"] for alert in used.ask("alerts")["alerts"]}

    assert not {name for name in firing if alerts()[name]["labels"]["severity"] == "critical"}


def test_the_alert_fires_when_persistence_hangs_and_ends_when_it_goes_on(
    used: Prometheus, stack: EmbeddedStack
) -> None:
    pid = next(service.pid for service in stack.status().services if service.name == "persistence")
    assert pid is not None

    def firing() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = used.ask("alerts")["alerts"]
        names = [alert for alert in found if alert["labels"]["alertname"] == "AntiphonServiceDown"]
        return [alert for alert in names if alert["state"] == "firing"]

    [table] = [panel for panel in panels("on-call.json") if panel["type"] == "table"]
    shown_by_the_table = partial(used.query, table["targets"][0]["expr"])
    os.kill(pid, signal.SIGSTOP)
    try:
        [alert] = used.wait(firing, "the alert")
        shown = used.wait(shown_by_the_table, "the alert in the table of the on-call")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert ("AntiphonServiceDown", "persistence") in {
        (row["metric"]["alertname"], row["metric"]["component"]) for row in shown
    }
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["component"] == "persistence"
    assert alert["annotations"]["summary"] == "No replica of persistence answers"
    assert alert["annotations"]["runbook_url"].endswith("/runbooks/AntiphonServiceDown.html")
    used.wait(lambda: not firing(), "the end of the alert")
