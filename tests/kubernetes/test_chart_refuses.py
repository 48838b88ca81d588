"""Values that make no sense are refused before anything is installed, each with what to do."""

from typing import Any

import pytest
from tests.kubernetes.chart import CHART, MINIMAL, Refused, helm, over, render, template

SCALED = {"enabled": True}
MONITORED = {"monitoring": {"endpoint": "nats:8222"}}

# what the schema refuses: one value alone
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key that does not exist": ({"sessionAPI": {}}, "additional properties 'sessionAPI' not allowed"),
    "a key within a block": ({"fleet": {"warmcalls": 1}}, "additional properties 'warmcalls' not allowed"),
    "a setting that does not exist": (
        {"sessionApi": {"settings": {"ANTIPHON_API_PROT": 1}}},
        "invalid propertyName 'ANTIPHON_API_PROT'",
    ),
    "a setting of another service": (
        {"fleet": {"settings": {"ANTIPHON_INGEST_BATCH": 1}}},
        "invalid propertyName 'ANTIPHON_INGEST_BATCH'",
    ),
    "a setting that the chart makes": (
        {"sessionApi": {"settings": {"ANTIPHON_API_PORT": 1}}},
        "invalid propertyName 'ANTIPHON_API_PORT'",
    ),
    "a level of logs": ({"log": {"level": "verbose"}}, "/log/level': value must be one of 'debug'"),
    "a pull policy": ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy': value must be one of"),
    "a way of migration": ({"migration": {"run": "never"}}, "value must be one of 'hook', 'init'"),
    "the root user": ({"pod": {"runAsUser": 0}}, "/pod/runAsUser': minimum: got 0, want 1"),
    "copies of the stream": ({"nats": {"replicas": 6}}, "/nats/replicas': maximum: got 6, want 5"),
    "a tiny stream": ({"nats": {"streamMaxBytes": 1000}}, "/nats/streamMaxBytes': minimum"),
    "an address of NATS": ({"nats": {"url": "http://nats"}}, "/nats/url': 'http://nats' does not match"),
    "an address of LiveKit": ({"livekit": {"url": "livekit:7880"}}, "/livekit/url': 'livekit:7880' does not"),
    "a user in LiveKit's address": ({"livekit": {"url": "ws://me:pw@livekit"}}, "/livekit/url': "),
    "a digest": ({"fleet": {"image": {"digest": "sha256:1"}}}, "/fleet/image/digest': 'sha256:1' does not"),
    "a port": ({"sessionApi": {"service": {"port": 70000}}}, "/sessionApi/service/port': maximum"),
    "no worker at all": ({"agentWorker": {"autoscaling": {"minReplicas": 0}}}, "minimum: got 0, want 1"),
    "no pod at all": ({"persistence": {"replicas": 0}}, "/persistence/replicas': minimum: got 0, want 1"),
    "calls of a day and more": ({"agentWorker": {"longestCallSeconds": 90000}}, "maximum: got 90,000"),
    "text for a number": ({"sessionApi": {"replicas": "two"}}, "got string, want null or integer"),
    "a negative delay": ({"sessionApi": {"shutdownDelaySeconds": -1}}, "minimum: got -1, want 0"),
    "a flow that is no YAML file": ({"flows": {"files": {"Flow.txt": "x"}}}, "'Flow.txt'"),
    "an address to bind": ({"pod": {"bindAddress": "127.0.0.1"}}, "value must be one of '0.0.0.0', '::'"),
    "a peer of no kind": ({"networkPolicy": {"kedaFrom": [{"name": "keda"}]}}, "'name' not allowed"),
    "an environment variable": ({"fleet": {"extraEnv": [{"name": "A-B"}]}}, "'A-B' does not match"),
    "a share of pods": (
        {"fleet": {"podDisruptionBudget": {}}},
        "additional properties 'podDisruptionBudget' not allowed",
    ),
}

# what does not fit together
CLASHES: dict[str, tuple[dict[str, Any], str]] = {
    "no NATS": ({"nats": {"url": ""}}, "nats.url is not set. Set it to the servers of NATS"),
    "a password for all to see": (
        {"nats": {"url": "nats://me:secret@nats:4222"}},
        "nats.url has a user or a password, which everyone who may read Deployments would see. Put them",
    ),
    "no Postgres": (
        {"postgres": {"existingSecret": ""}},
        "postgres.existingSecret is not set. Make a Secret with the DSN of Postgres",
    ),
    "no LiveKit": ({"livekit": {"url": ""}}, "livekit.url is not set. Set it to LiveKit as pods reach it"),
    "no key of LiveKit": ({"livekit": {"existingSecret": ""}}, "livekit.existingSecret is not set. Make a"),
    "a certificate from nowhere": (
        {"nats": {"tls": {"clientCertificate": True}}},
        "nats.tls.existingSecret is not set. Set it to the Secret with ca.crt, tls.crt and tls.key",
    ),
    "a label of ours on everything": (
        {"commonLabels": {"app.kubernetes.io/instance": "x"}},
        "commonLabels has app.kubernetes.io/instance, which the chart sets itself, and by which it finds its",
    ),
    "a label of ours on pods": (
        {"sessionApi": {"podLabels": {"app.kubernetes.io/component": "x"}}},
        "sessionApi.podLabels has app.kubernetes.io/component, which the chart sets itself",
    ),
    "flows from two places": (
        {"flows": {"files": {"a.yaml": "x"}, "existingConfigMap": "flows"}},
        "flows.files and flows.existingConfigMap are both set. Keep the flows in one of them",
    ),
    "a migration that ends before its statement": (
        {"migration": {"activeDeadlineSeconds": 600}},
        "migration.activeDeadlineSeconds is 600, not more than migration.statementTimeoutSeconds (3600)",
    ),
    "a grace that cuts calls off": (
        {"agentWorker": {"longestCallSeconds": 3600, "terminationGracePeriodSeconds": 3600}},
        "would be killed before its record is published. Set it to 3700 or more (longest call + 100)",
    ),
    "workers scaled by nobody": (
        {"agentWorker": {"autoscaling": SCALED}, "fleet": {"enabled": False}},
        "needs the service that counts calls. Set fleet.enabled to true",
    ),
    "workers removed in a pause": (
        {"agentWorker": {"autoscaling": {"enabled": True, "scaleDownStabilizationSeconds": 60}}},
        "is 60: a short pause between calls would remove workers. Set it to 300 or more",
    ),
    "a fallback above the most": (
        {"agentWorker": {"autoscaling": {"enabled": True, "fallbackReplicas": 30, "maxReplicas": 20}}},
        "agentWorker.autoscaling.fallbackReplicas is 30, more than maxReplicas (20)",
    ),
    "two owners of the replicas": (
        {"sessionApi": {"replicas": 3, "autoscaling": SCALED}},
        "sessionApi.replicas and sessionApi.autoscaling.enabled are both set: an upgrade would fight with",
    ),
    "more at least than at most": (
        {"sessionApi": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}},
        "sessionApi.autoscaling.minReplicas is 5, more than maxReplicas (4). Lower the one",
    ),
    "CPU that is compared with nothing": (
        {"webhookIngest": {"autoscaling": SCALED, "resources": {"requests": {"cpu": None}}}},
        "webhookIngest.autoscaling.enabled needs webhookIngest.resources.requests.cpu",
    ),
    "more ingest than partitions": (
        {"nats": MONITORED, "persistence": {"autoscaling": {"enabled": True, "maxReplicas": 17}}},
        "persistence.autoscaling.maxReplicas is 17, but the log has 16 partitions",
    ),
    "more views than partitions": (
        {"projections": {"enabled": True, "autoscaling": {"enabled": True, "maxReplicas": 17}}},
        "projections.autoscaling.maxReplicas is 17, but the log has 16 partitions",
    ),
    "a lag that nobody can read": (
        {"persistence": {"autoscaling": SCALED}},
        "persistence.autoscaling.enabled needs nats.monitoring.endpoint",
    ),
    "views scaled that are not apart": (
        {"projections": {"autoscaling": SCALED}},
        "projections.autoscaling.enabled is true, but projections.enabled is not",
    ),
    "a budget that blocks drains": (
        {"persistence": {"podDisruptionBudget": {"maxUnavailable": 0}}},
        "persistence.podDisruptionBudget.maxUnavailable is 0: no node could ever be drained. Set it to 1",
    ),
    "a budget of no percent": (
        {"agentWorker": {"podDisruptionBudget": {"maxUnavailable": "0%"}}},
        "agentWorker.podDisruptionBudget.maxUnavailable is 0%: no node could ever be drained",
    ),
    "a server killed while it waits": (
        {"sessionApi": {"shutdownDelaySeconds": 30}},
        "sessionApi.terminationGracePeriodSeconds is 30: open requests need up to 15 s after",
    ),
    "a variable twice": (
        {"sessionApi": {"extraEnv": [{"name": "ANTIPHON_API_PORT", "value": "1"}]}},
        "ANTIPHON_API_PORT is set twice for session-api. Remove it from sessionApi.extraEnv",
    ),
    "an entrance for every host": (
        {"sessionApi": {"ingress": {"enabled": True}}},
        "sessionApi.ingress.enabled needs sessionApi.ingress.host",
    ),
    "a route to no gateway": (
        {"sessionApi": {"httpRoute": {"enabled": True}}},
        "sessionApi.httpRoute.enabled needs sessionApi.httpRoute.parentRefs",
    ),
    "a route without the Gateway API": (
        {"sessionApi": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
        "needs the Gateway API, which this cluster does not have. Install its CRDs",
    ),
}

ELSEWHERE = ("replicaCount", "resources", "autoscaling", "ingress", "service", "env", "postgresql")


def refusal(values: dict[str, Any], **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        render(values, **options)
    return str(refused.value)


@pytest.mark.parametrize("name", WRONG)
def test_the_schema_refuses(name: str) -> None:
    values, message = WRONG[name]

    assert message in refusal(values)


@pytest.mark.parametrize("name", CLASHES)
def test_what_does_not_fit_is_refused_with_what_to_do(name: str) -> None:
    values, message = CLASHES[name]

    assert message in refusal(values)


@pytest.mark.parametrize("key", ELSEWHERE)
def test_a_key_of_other_charts_is_refused_with_its_place_here(key: str) -> None:
    assert f"{key} is not a value of this chart: set " in refusal({key: {}})


@pytest.mark.parametrize("block", ["persistence", "projections", "agentWorker"])
def test_a_cluster_without_keda(block: str) -> None:
    values = {"nats": MONITORED, "projections": {"enabled": True}}

    refused = refusal(over(values, {block: {"autoscaling": SCALED}}), apis=())

    assert f"{block}.autoscaling.enabled needs KEDA, which this cluster does not have. Install" in refused


@pytest.mark.parametrize("name", ["1st", "voice.prod"])
def test_a_name_that_no_service_may_have_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"names of objects would begin with {name}, which no Service may. Set"):
        helm("template", name, str(CHART), "-f", str(CHART / "examples" / "minimal.yaml"))


def test_an_old_kubernetes_is_refused() -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.29\.0"):
        template(MINIMAL, kubernetes="1.28.0")
