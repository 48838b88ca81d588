"""What clusters with rules of their own ask for: tainted nodes, quotas, other DNS, no right to patch pods."""

from typing import Any

import yaml
from tests.kubernetes.chart import CHART, containers, of_kind, over, pods, render

FULL: dict[str, Any] = yaml.safe_load((CHART / "examples" / "everything.yaml").read_text())
KEY: dict[str, Any] = {"sessionApi": {"bootstrapKeySecret": "key"}}
SERVICES = ("sessionApi", "webhookIngest", "persistence", "agentWorker", "fleet")
DEDICATED: dict[str, Any] = {
    "nodeSelector": {"pool": "voice"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}, "podAntiAffinity": {}},
    "priorityClassName": "voice",
}


def test_jobs_and_tests_run_on_the_nodes_of_their_service() -> None:
    values = dict.fromkeys(SERVICES, DEDICATED) | {"flows": {"existingConfigMap": "flows"}}
    found = render(over(values, KEY))

    placed = {name: pod["spec"] for name, pod in pods(found)}
    assert {name.partition("/")[0] for name in placed} == {"Deployment", "Job", "Pod"}
    for name, spec in placed.items():
        assert spec["tolerations"] == DEDICATED["tolerations"], name
        assert spec["nodeSelector"] == DEDICATED["nodeSelector"], name
        assert spec["priorityClassName"] == "voice", name
        assert "nodeAffinity" in spec["affinity"], name
        assert ("podAntiAffinity" in spec["affinity"]) == name.startswith("Deployment"), name


def test_a_limit_of_cpu_can_be_set_for_every_container() -> None:
    limited = {"resources": {"limits": {"cpu": "1"}}}
    blocks = (*SERVICES, "migration", "flows", "test")
    values = over(dict.fromkeys(blocks, limited), {"flows": {"existingConfigMap": "flows"}})

    found = [
        (name, container["resources"]["limits"].get("cpu"))
        for name, pod in pods(render(over(values, KEY)))
        for container in containers(pod)
    ]

    assert len(found) == 9
    assert {cpu for _, cpu in found} == {"1"}, found


def test_a_job_that_failed_goes_after_a_day() -> None:
    jobs = of_kind("Job", render(FULL))

    assert {name: job["spec"]["ttlSecondsAfterFinished"] for name, job in jobs.items()} == {
        "migrate": 86400,
        "publish-flows": 86400,
    }


def test_dns_may_have_other_ports() -> None:
    policies = of_kind("NetworkPolicy", render({"networkPolicy": {"dns": {"ports": [53, 5353]}}}))

    ports = policies["deny"]["spec"]["egress"][0]["ports"]
    assert [(each["protocol"], each["port"]) for each in ports] == [
        ("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353),
    ]  # fmt: skip


def test_without_deletion_costs_nobody_has_a_right_or_a_token() -> None:
    found = render({"fleet": {"deletionCosts": False}})

    assert {each["kind"] for each in found} & {"Role", "RoleBinding"} == set()
    assert not any(pod["spec"]["automountServiceAccountToken"] for _, pod in pods(found))
    [fleet] = containers(of_kind("Deployment", found)["fleet"]["spec"]["template"])
    assert {"name": "ANTIPHON_FLEET_DELETION_COST", "value": "off"} in fleet["env"]
    ports = {
        port["port"]
        for rule in of_kind("NetworkPolicy", found)["fleet"]["spec"]["egress"]
        for port in rule["ports"]
    }
    assert ports == {4222}
