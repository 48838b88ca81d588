"""What each pod may do: Pod Security "restricted", no token, no secret in the open, and few connections."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.chart import CHART, EXAMPLES, Object, containers, example, of_kind, over, pods, render

FULL: dict[str, Any] = yaml.safe_load((CHART / "examples" / "everything.yaml").read_text())

VOLUMES = {"configMap", "emptyDir", "secret"}  # of those that "restricted" allows

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])


def faults(pod: Object) -> Iterator[str]:
    """Yield what Pod Security "restricted" refuses, and what our own rules add."""
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "uses the host's namespaces"
    for volume in spec.get("volumes", ()):
        if not VOLUMES & volume.keys():
            yield f"volume {volume['name']}"
    for container in containers(pod):
        yield from (f"{container['name']}: {fault}" for fault in faults_of_container(container))


def faults_of_container(container: Object) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if security.get("privileged") or security.get("capabilities", {}) != {"drop": ["ALL"]}:
        yield "has capabilities"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "may write to its image"
    if not any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]):
        yield "has no folder for temporary files"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "takes a port of its node"
    if not container["resources"]["limits"].get("memory") or not container["resources"]["requests"].get(
        "cpu"
    ):
        yield "has no request of CPU or no limit of memory"


@each_example
def test_every_pod_is_restricted(path: Path) -> None:
    found = {name: list(faults(pod)) for name, pod in pods(example(path))}

    assert len(found) >= 7
    assert [name for name, faulty in found.items() if faulty] == []


BREACHES: dict[str, Any] = {
    "may run as root": lambda pod: pod["spec"]["securityContext"].update(runAsUser=0),
    "no seccomp profile": lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
    "uses the host's namespaces": lambda pod: pod["spec"].update(hostNetwork=True),
    "volume tmp": lambda pod: pod["spec"].update(volumes=[{"name": "tmp", "hostPath": {"path": "/"}}]),
    "may gain privileges": lambda pod: containers(pod)[0]["securityContext"].pop("allowPrivilegeEscalation"),
    "has capabilities": lambda pod: containers(pod)[0]["securityContext"].update(capabilities={}),
    "may write to its image": lambda pod: containers(pod)[0]["securityContext"].pop("readOnlyRootFilesystem"),
    "has no folder": lambda pod: containers(pod)[0].update(volumeMounts=[]),
    "takes a port": lambda pod: containers(pod)[0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
    "no limit of memory": lambda pod: containers(pod)[0]["resources"]["limits"].clear(),
}


@pytest.fixture(scope="module")
def one_pod() -> Object:
    template: Object = of_kind("Deployment", render({}))["session-api"]["spec"]["template"]
    return template


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_found(breach: str, one_pod: Object) -> None:
    pod = copy.deepcopy(one_pod)
    BREACHES[breach](pod)

    [fault] = faults(pod)

    assert breach in fault


@each_example
def test_only_fleet_speaks_with_the_api_server(path: Path) -> None:
    found = example(path)

    with_token = [
        name for name, pod in pods(found) if pod["spec"]["automountServiceAccountToken"] is not False
    ]
    assert with_token == ["Deployment/voice-fleet"]
    assert {each["automountServiceAccountToken"] for each in of_kind("ServiceAccount", found).values()} == {
        False
    }
    [role] = of_kind("Role", found).values()
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "patch"]}]
    assert not of_kind("ClusterRole", found)


def test_each_service_has_an_account_of_its_own() -> None:
    found = render(FULL)
    accounts = {name: each["metadata"]["name"] for name, each in of_kind("ServiceAccount", found).items()}
    used = {
        name: each["spec"]["template"]["spec"]["serviceAccountName"]
        for name, each in of_kind("Deployment", found).items()
    }

    assert used == accounts
    assert len(set(used.values())) == len(used)


def test_secrets_come_by_reference() -> None:
    found = render(FULL)

    assert not of_kind("Secret", found)
    for name, pod in pods(found):
        for container in containers(pod):
            for variable in container.get("env", ()):
                secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "DSN", "_API_KEY"))
                if secret:
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])


def test_everything_is_denied_that_no_policy_allows() -> None:
    found = render(FULL)
    policies = of_kind("NetworkPolicy", found)
    deny = policies.pop("deny")["spec"]

    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    dns = {(port["protocol"], port["port"]) for port in deny["egress"][0]["ports"]}
    assert dns == {("UDP", 53), ("TCP", 53)}
    for name, pod in pods(found):
        labels = pod["metadata"]["labels"]
        assert deny["podSelector"]["matchLabels"].items() <= labels.items(), name
        own = policies[labels["app.kubernetes.io/component"]]["spec"]
        assert own["podSelector"]["matchLabels"].items() <= labels.items(), name


REACHES = {  # the TCP ports below 1024 are those of HTTP(S)
    "session-api": {4222, 5432, 7880},
    "webhook-ingest": {4222, 7880},
    "persistence": {4222, 5432},
    "projections": {4222, 5432},
    "migrate": {4222, 5432},
    "publish-flows": {4222},
    "agent-worker": {4222, 7880, 7881, 5349, 80, 443},
    "fleet": {4222, 443, 6443},
    "test": {8000},
}


def test_a_component_reaches_what_it_needs_and_nothing_else() -> None:
    policies = of_kind("NetworkPolicy", render(FULL))
    reached = {
        name: {
            port["port"]
            for rule in policy["spec"]["egress"] or ()
            for port in rule["ports"]
            if port["protocol"] == "TCP"
        }
        for name, policy in policies.items()
        if name != "deny"
    }

    assert reached == REACHES


def test_media_leave_agent_workers_only() -> None:
    policies = of_kind("NetworkPolicy", render({}))
    udp = {
        name: [
            (port["port"], port.get("endPort"))
            for rule in policy["spec"].get("egress") or ()
            for port in rule["ports"]
            if port["protocol"] == "UDP"
        ]
        for name, policy in policies.items()
    }

    assert udp.pop("deny") == [(53, None)]
    assert udp.pop("agent-worker") == [(443, None), (3478, None), (7882, None), (50000, 60000)]
    assert not any(udp.values())


def test_agent_workers_reach_no_private_address_by_http() -> None:
    rules = of_kind("NetworkPolicy", render({}))["agent-worker"]["spec"]["egress"]

    [web] = [
        rule
        for rule in rules
        if {80, 443} & {port["port"] for port in rule["ports"] if port["protocol"] == "TCP"}
    ]
    assert "169.254.0.0/16" in web["to"][0]["ipBlock"]["except"]
    closed = of_kind("NetworkPolicy", render({"networkPolicy": {"agentWorkerInternet": False}}))
    ports = {
        port["port"] for rule in closed["agent-worker"]["spec"]["egress"] for port in rule["ports"]
        if port["protocol"] == "TCP"
    }  # fmt: skip
    assert ports == {4222, 7880, 7881, 5349}


def test_who_may_come_in() -> None:
    unread = {"metrics": {"annotations": False, "podMonitor": {"enabled": False}}}
    policies = of_kind("NetworkPolicy", render(over(FULL, unread)))
    incoming = {
        name: policy["spec"]["ingress"] for name, policy in policies.items() if "ingress" in policy["spec"]
    }

    assert sorted(incoming) == ["fleet", "session-api", "webhook-ingest"]
    [fleet] = incoming["fleet"]
    assert fleet["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
    # the pod of `helm test` comes in beside those that the values name
    assert len(incoming["session-api"][0]["from"]) == 2


def test_livekit_by_tls_is_reached_at_443() -> None:
    policies = of_kind("NetworkPolicy", render({"livekit": {"url": "wss://livekit.example.com"}}))

    ports = [port["port"] for rule in policies["session-api"]["spec"]["egress"] for port in rule["ports"]]
    assert ports == [4222, 5432, 7880, 443]


@pytest.mark.parametrize("kind", ["userPassword", "creds"])
def test_each_pod_gets_the_secret_of_its_own_user_of_nats_and_no_other(kind: str) -> None:
    keys = ("persistence", "sessionApi", "webhookIngest", "agentWorker", "flowPublisher")
    values = copy.deepcopy(FULL)
    values["nats"]["auth"] |= {
        "type": kind,
        "existingSecret": "shared-of-nats",
        "users": {key: {"existingSecret": f"of-{key}"} for key in keys},
    }
    found = {name: _secrets_of_nats(pod, kind) for name, pod in pods(render(values))}

    own = {
        "persistence": "of-persistence",
        "projections": "of-persistence",
        "session-api": "of-sessionApi",
        "webhook-ingest": "of-webhookIngest",
        "agent-worker": "of-agentWorker",
        "publish-flows": "of-flowPublisher",
        "fleet": "shared-of-nats",
    }
    for part, secret in own.items():
        [names] = [names for name, names in found.items() if part in name]
        assert names == {secret}, part


def _secrets_of_nats(pod: Object, kind: str) -> set[str]:
    if kind == "creds":
        volumes = pod["spec"].get("volumes", ())
        return {volume["secret"]["secretName"] for volume in volumes if volume["name"] == "nats-auth"}
    return {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for container in containers(pod)
        for variable in container.get("env", ())
        if variable["name"] == "ANTIPHON_NATS_PASSWORD"
    }
