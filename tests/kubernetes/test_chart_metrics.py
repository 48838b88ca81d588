"""Metrics on Kubernetes: what is scraped and by whom, the alert rules, and the dashboards."""

import json
from typing import Any

import pytest
import yaml
from tests.kubernetes.chart import Object, Refused, of_kind, render

PORTS = {
    "session-api": 9464,
    "webhook-ingest": 9464,
    "persistence": 8002,
    "agent-worker": 8003,
    "fleet": 8005,
    "projections": 8002,
}
VIEWS = {"projections": {"enabled": True}}
MONITORED: dict[str, Any] = {
    "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prom"}}}
} | VIEWS


def port_named(deployment: Object, name: str) -> list[int]:
    ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    return [port["containerPort"] for port in ports if port["name"] == name]


def test_nothing_of_it_is_there_unless_it_is_asked_for() -> None:
    found = render({})

    assert not {"PodMonitor", "PrometheusRule", "ConfigMap"} & {each["kind"] for each in found}
    for name, deployment in of_kind("Deployment", found).items():
        assert "prometheus.io/scrape" not in deployment["spec"]["template"]["metadata"]["annotations"], name
    for name, policy in of_kind("NetworkPolicy", found).items():
        ports = [port["port"] for rule in policy["spec"].get("ingress", []) for port in rule["ports"]]
        assert 9464 not in ports, name


def test_each_service_has_a_monitor_of_the_port_that_serves_its_metrics() -> None:
    found = render(MONITORED)
    monitors, deployments = of_kind("PodMonitor", found), of_kind("Deployment", found)

    assert set(monitors) == set(deployments) == set(PORTS)
    for name, monitor in monitors.items():
        spec = monitor["spec"]
        pods = deployments[name]["spec"]["template"]["metadata"]["labels"]
        [endpoint] = spec["podMetricsEndpoints"]
        assert monitor["metadata"]["labels"]["release"] == "prom"
        assert spec["selector"]["matchLabels"].items() <= pods.items()
        assert pods[spec["jobLabel"]] == name, "the rules know services by their job"
        assert port_named(deployments[name], endpoint["port"]) == [PORTS[name]]
        assert endpoint["path"] == "/metrics"


@pytest.mark.parametrize("chosen", [MONITORED["metrics"], {"annotations": True}])
def test_prometheus_is_let_in_to_metrics_and_to_nothing_else(chosen: dict[str, Any]) -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observe"}}}
    before = of_kind("NetworkPolicy", render(VIEWS))
    after = of_kind("NetworkPolicy", render(VIEWS | {"metrics": {**chosen, "from": [prometheus]}}))

    for name, policy in after.items():
        old, new = (each["spec"].get("ingress", []) for each in (before[name], policy))
        added = [{"protocol": "TCP", "port": PORTS.get(name)}]
        assert new == old + ([{"ports": added, "from": [prometheus]}] if name in PORTS else []), name


def test_services_that_the_public_reaches_serve_metrics_on_a_port_of_their_own() -> None:
    found = render({})
    services = of_kind("Service", found)
    for name, deployment in of_kind("Deployment", found).items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        values = {each["name"]: each.get("value") for each in container["env"]}
        assert values.get("ANTIPHON_METRICS_PORT") == ("9464" if PORTS[name] == 9464 else None), name
        if name in services:
            assert [port["targetPort"] for port in services[name]["spec"]["ports"]] == ["http"], name


def test_annotations_name_the_port_and_leave_those_of_the_values() -> None:
    mine = {"podAnnotations": {"prometheus.io/scrape": "false", "team": "voice"}}
    found = of_kind("Deployment", render({"metrics": {"annotations": True}, "fleet": mine} | VIEWS))

    for name, deployment in found.items():
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(PORTS[name])
        assert annotations["prometheus.io/scrape"] == ("false" if name == "fleet" else "true")
    assert found["fleet"]["spec"]["template"]["metadata"]["annotations"]["team"] == "voice"


def test_rules_and_dashboards_lead_to_the_documentation_of_the_values() -> None:
    chosen = {
        "docsUrl": "https://docs.example.com/voice/",
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Antiphon"}},
    }
    found = render({"metrics": chosen})
    groups = [group for rule in of_kind("PrometheusRule", found).values() for group in rule["spec"]["groups"]]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    dashboards = of_kind("ConfigMap", found)

    assert alerts
    for rule in alerts:
        expected = f"https://docs.example.com/voice/runbooks/{rule['alert']}.html"
        assert rule["annotations"]["runbook_url"] == expected
    assert set(dashboards) == {f"{name}-dashboard" for name in ("calls", "log", "on-call", "overview")}
    for name, each in dashboards.items():
        [text] = each["data"].values()
        assert json.loads(text)["uid"] == f"antiphon-{name.removesuffix('-dashboard')}"
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert "antiphon.example" not in yaml.safe_dump(found)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"podMonitor": {"enabled": True}}, "metrics.podMonitor.enabled needs the Prometheus operator"),
        ({"prometheusRule": {"enabled": True}}, "metrics.prometheusRule.enabled needs the Prometheus"),
        ({"docsUrl": "docs.example.com"}, "/metrics/docsUrl': 'docs.example.com' does not match"),
        ({"docsUrl": "https://antiphon.example/x"}, "metrics.docsUrl is an example. Set it to where"),
        ({"podMonitor": {"interval": "5m"}}, "/metrics/podMonitor/interval': '5m' does not match"),
        (
            {"podMonitor": {"labels": {"app.kubernetes.io/name": "x"}}},
            "metrics.podMonitor.labels has app.kubernetes.io/name, which the chart sets itself",
        ),
    ],
)
def test_what_cannot_be_is_refused(metrics: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        render({"metrics": metrics}, apis=())
    assert message in str(refused.value)
