"""The autoscalers ask what the services answer: consumers, the document of fleet, the log."""

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml
from tests.kubernetes.chart import CHART, of_kind, render

from antiphon.contracts.streams import CONSUMERS, SESSIONS
from antiphon.contracts.subjects import PARTITIONS
from antiphon.fleet.scale import Scale

FULL: dict[str, Any] = yaml.safe_load((CHART / "examples" / "everything.yaml").read_text())


def scaled(component: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("ScaledObject", render(FULL if values is None else values))[component][
        "spec"
    ]
    return spec


def summed(formula: str, lags: Sequence[int], triggers: Sequence[dict[str, Any]]) -> int:
    """Return the formula's value when each trigger has its lag."""
    named = {trigger["name"]: lag for trigger, lag in zip(triggers, lags, strict=True)}
    return sum(named[term] for term in formula.split(" + "))


def test_persistence_follows_all_consumers_of_ingest() -> None:
    spec = scaled("persistence")
    triggers = spec["triggers"]

    asked = [(each["metadata"]["stream"], each["metadata"]["consumer"]) for each in triggers]
    assert asked == [(SESSIONS.name, consumer.name) for consumer in CONSUMERS]
    lags = [2**number for number in range(PARTITIONS)]
    modifiers = spec["advanced"]["scalingModifiers"]
    assert summed(modifiers["formula"], lags, triggers) == sum(lags)
    assert (modifiers["target"], modifiers["metricType"]) == ("2000", "AverageValue")
    assert spec["maxReplicaCount"] <= PARTITIONS


def test_agent_workers_follow_the_document_of_fleet() -> None:
    found = render({"agentWorker": {"autoscaling": {"enabled": True}, "callsPerPod": 15}})
    spec = of_kind("ScaledObject", found)["agent-worker"]["spec"]
    [trigger] = spec["triggers"]

    assert trigger["metadata"]["valueLocation"] in {field.name for field in msgspec.structs.fields(Scale)}
    assert (trigger["metricType"], trigger["metadata"]["targetValue"]) == ("AverageValue", "13.5")
    service = of_kind("Service", found)["fleet"]
    where = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert trigger["metadata"]["url"] == f"http://{where}:{service['spec']['ports'][0]['port']}/scale"


def test_agent_workers_stay_while_nobody_counts() -> None:
    assert scaled("agent-worker")["fallback"] == {
        "failureThreshold": 3,
        "replicas": 4,
        "behavior": "currentReplicasIfHigher",
    }


def test_pods_go_one_by_one_after_a_quiet_time() -> None:
    found = render(FULL)
    downs = [
        each["spec"].get("behavior") or each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for each in of_kind(kind, found).values()
    ]

    assert len(downs) == 5
    for down in downs:
        assert down["scaleDown"] == {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        }


def test_keda_reads_the_lag_of_views_with_a_role_of_its_own() -> None:
    found = render(FULL)
    authentication = of_kind("TriggerAuthentication", found)["projections"]
    [trigger] = of_kind("ScaledObject", found)["projections"]["spec"]["triggers"]

    [secret] = authentication["spec"]["secretTargetRef"]
    assert secret == {"parameter": "connection", "name": "antiphon-postgres-reader", "key": "dsn"}
    assert trigger["metadata"]["query"] == "select projection_lag(array['sessions', 'turns'])"
    assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}


def test_each_autoscaler_scales_a_deployment_that_is_there() -> None:
    found = render(FULL)
    deployments = {each["metadata"]["name"] for each in of_kind("Deployment", found).values()}

    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for component, each in of_kind(kind, found).items():
            assert each["spec"]["scaleTargetRef"]["name"] in deployments, component


def test_all_views_are_asked_for_unless_some_are_named() -> None:
    spec = scaled("projections", {"projections": {"enabled": True, "autoscaling": {"enabled": True}}})

    assert spec["triggers"][0]["metadata"]["query"] == "select projection_lag()"
