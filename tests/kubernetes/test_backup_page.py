"""The CronJob of the page on backups fits what the guide to Kubernetes has made and the chart calls it."""

import re
from pathlib import Path
from typing import Any

import yaml
from tests.kubernetes.chart import containers, of_kind, pods, render

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
MADE = re.compile(r"create secret generic (\S+) (.*)")


def job() -> Any:
    """Return the pod of the CronJob."""
    text = (HOW_TO / "back-up-and-restore.md").read_text()
    [block] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    [found] = [each for each in yaml.safe_load_all(block) if each["kind"] == "CronJob"]
    return found["spec"]["jobTemplate"]["spec"]["template"]


def test_its_secrets_are_those_of_the_guide() -> None:
    before = (HOW_TO / "run-on-kubernetes.md").read_text().partition("## Install")[0]
    made = {name: set(re.findall(r"--from-literal=([\w-]+)=", rest)) for name, rest in MADE.findall(before)}
    for container in containers(job()):
        for variable in container["env"]:
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["key"] in made[reference["name"]], variable["name"]


def test_its_image_and_variables_are_those_of_the_chart() -> None:
    values = {
        "image": {"registry": "registry.example.com/voice"},
        "nats": {"auth": {"existingSecret": "nats"}},
    }
    rendered = of_kind("Deployment", render(values))["persistence"]
    [(_, pod)] = list(pods([rendered]))
    [ours] = containers(pod)
    [broker] = [each for each in containers(job()) if each["name"] == "broker"]

    assert broker["image"] == ours["image"]
    named = {variable["name"] for variable in ours["env"]}
    assert {variable["name"] for variable in broker["env"]} - {"POD"} <= named
