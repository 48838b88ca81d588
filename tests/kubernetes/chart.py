"""The charts as `helm template` renders them, without a cluster."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.kubernetes.programs import Built

from antiphon.cli.settings import StackSettings

ROOT = Path(__file__).parents[2]
HELM_CHARTS = ROOT / "deploy" / "helm"
CHART = HELM_CHARTS / "antiphon"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
KEDA = "keda.sh/v1alpha1/ScaledObject"
MONITORING = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")
GATEWAY = "gateway.networking.k8s.io/v1/HTTPRoute"
HELM_SECONDS = 60

MINIMAL: dict[str, Any] = yaml.safe_load((CHART / "examples" / "minimal.yaml").read_text())

Object = dict[str, Any]


class Refused(Exception):
    """Helm has refused the values; the message is its own."""


def helm(*arguments: str) -> str:
    """Run helm and return what it prints. Raises Refused."""
    program = Built.of(StackSettings().cache).path("helm")
    assert program.exists(), "helm is not built: make test-kubernetes builds it"
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=HELM_SECONDS, check=False
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def over(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with others over them, as Helm merges files."""
    result = dict(values)
    for key, value in more.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = over(below, value) if isinstance(below, Mapping) and both else value
    return result


def template(
    values: Mapping[str, Any],
    *,
    chart: Path = CHART,
    apis: tuple[str, ...] = (KEDA, *MONITORING),
    show: str | None = None,
    kubernetes: str | None = None,
    again: bool = False,
) -> str:
    """Return what the chart makes of values, once made or made `again`. Raises Refused."""
    text = yaml.safe_dump(dict(values))
    options = [option for api in apis for option in ("--api-versions", api)]
    options += ["--show-only", show] if show else []
    options += ["--kube-version", kubernetes] if kubernetes else []
    made = _template.__wrapped__ if again else _template
    return made(text, chart, tuple(options))


@cache
def _template(values: str, chart: Path, options: tuple[str, ...]) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values)
        file.flush()
        return helm("template", "voice", str(chart), "--namespace", "apps", "-f", file.name, *options)


def objects(text: str) -> list[Object]:
    """Return the objects of a rendered chart."""
    return [each for each in yaml.safe_load_all(text) if each]


def render(values: Mapping[str, Any], **options: Any) -> list[Object]:
    """Return the objects that the chart makes of values, over the least ones. Raises Refused."""
    return objects(template(over(MINIMAL, values), **options))


def of_kind(kind: str, found: list[Object]) -> dict[str, Object]:
    """Return the objects of a kind by their component."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each
        for each in found
        if each["kind"] == kind
    }


def pods(found: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the name of each object that has pods, and the pod with its metadata."""
    for each in found:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each
        elif each["kind"] in ("Deployment", "Job"):
            yield name, each["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod."""
    found: list[Object] = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    return found


def example(path: Path) -> list[Object]:
    """Return the objects of an example."""
    return objects(template(yaml.safe_load(path.read_text())))
