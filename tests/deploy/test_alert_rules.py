"""The alert rules name what exists, and say how bad it is, what it is, and where its page is."""

from typing import Any

import pytest
from tests.deploy.alert_rules import alerts, recorded, rules
from tests.deploy.promql import unknown
from tools.dashboards.panels import DOCS

ALERTS = alerts()


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_only_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert list(unknown(rule["expr"], recorded())) == []


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sum(antiphon_ingest_backlogs) > 0", ["antiphon_ingest_backlogs"]),
        ('antiphon_ingest_backlog{shard="1"}', ["antiphon_ingest_backlog{shard}"]),
        ("sum by (tenant) (antiphon_ingest_backlog)", ["by (tenant)"]),
        ("rate(http_server_request_duration_seconds[5m])", ["http_server_request_duration_seconds"]),
        ("up / on (host) up", ["by (host)"]),
    ],
)
def test_what_does_not_exist_is_found(expression: str, found: list[str]) -> None:
    assert list(unknown(expression)) == found


def test_what_is_no_query_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        list(unknown("sum(up"))


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_all_that_the_on_call_needs(name: str) -> None:
    rule = ALERTS[name]
    written = rule["annotations"]

    assert name.startswith("Antiphon")
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["labels"]["component"]
    assert rule["for"]
    assert len(written["summary"]) < len(written["description"]) < 200
    assert written["runbook_url"] == f"{DOCS}/runbooks/{name}.html"
