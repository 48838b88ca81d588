"""What the chart renders: the examples, names, images, replicas, probes, the ends of pods, and the notes."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.chart import (
    CHART,
    EXAMPLES,
    GATEWAY,
    MINIMAL,
    ROOT,
    Object,
    containers,
    example,
    helm,
    of_kind,
    over,
    pods,
    render,
    template,
)

SCALED = {"HorizontalPodAutoscaler", "ScaledObject"}
FULL = yaml.safe_load((CHART / "examples" / "everything.yaml").read_text())

each_example = pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])


@each_example
def test_an_example_has_no_fault(path: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "-f", str(path))
    assert example(path)


@each_example
def test_an_example_is_rendered_twice_alike(path: Path) -> None:
    values = yaml.safe_load(path.read_text())

    assert template(values) == template(values, again=True)


def test_the_version_is_that_of_the_packages() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    for chart in sorted(CHART.parent.glob("*/Chart.yaml")):
        about = yaml.safe_load(chart.read_text())
        assert (about["version"], about["appVersion"]) == (version, version), chart


def test_images_are_those_that_make_images_builds() -> None:
    found = {container["image"]: name for name, pod in pods(render(FULL)) for container in containers(pod)}

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    built = {path.name for path in (ROOT / "services").iterdir() if (path / "pyproject.toml").is_file()}
    assert set(found) == {f"registry.example.com/voice/{service}:{version}" for service in built}


def test_a_digest_takes_the_place_of_a_tag() -> None:
    digest = "sha256:" + "a" * 64
    found = render({"image": {"tag": "next"}, "persistence": {"image": {"digest": digest}}})

    images = {container["image"] for _, pod in pods(found) for container in containers(pod)}
    assert f"antiphon/persistence@{digest}" in images
    assert "antiphon/session-api:next" in images


def replicas_under_autoscalers(found: list[Object]) -> list[str]:
    owned = set()
    for each in found:
        if each["kind"] in SCALED:
            owned.add(each["spec"]["scaleTargetRef"]["name"])
    deployments = [each for each in found if each["kind"] == "Deployment"]
    return [
        each["metadata"]["name"]
        for each in deployments
        if ("replicas" in each["spec"]) == (each["metadata"]["name"] in owned)
    ]


@each_example
def test_replicas_are_set_where_no_autoscaler_owns_them_and_only_there(path: Path) -> None:
    assert replicas_under_autoscalers(example(path)) == []


def test_replicas_under_an_autoscaler_are_found() -> None:
    found = render(FULL)
    of_kind("Deployment", found)["session-api"]["spec"]["replicas"] = 2

    assert replicas_under_autoscalers(found) == ["voice-session-api"]


@each_example
def test_a_rollout_never_takes_a_pod_before_its_successor_is_ready(path: Path) -> None:
    for deployment in of_kind("Deployment", example(path)).values():
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_a_call_may_end_before_its_worker_is_killed() -> None:
    found = of_kind("Deployment", render({"agentWorker": {"longestCallSeconds": 7200}}))
    pod = found["agent-worker"]["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] == 7320
    assert environment(pod)["ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS"] == "7200"


def test_probes_ask_for_life_and_for_readiness_apart() -> None:
    for name, pod in pods(render(FULL)):
        if not name.startswith("Deployment/"):
            continue
        [container] = pod["spec"]["containers"]
        port = container["ports"][0]
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        # an outage of NATS or Postgres makes pods unready, and restarts none
        assert paths["startup"]["path"] == paths["liveness"]["path"] == "/health/live", name
        assert paths["readiness"]["path"] == "/health/ready", name
        assert {get["port"] for get in paths.values()} == {port["name"]}
        bound = [value for key, value in environment(pod["spec"]).items() if key.endswith("_PORT")]
        assert bound == [str(each["containerPort"]) for each in container["ports"]], name


def test_the_migration_needs_nothing_that_the_release_has_not_made_yet() -> None:
    found = render(FULL)
    job = of_kind("Job", found)["migrate"]

    notes = job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 3900)
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "default"
    # one after the other: streams need the schema
    assert [each["args"] for each in pod["initContainers"]] == [["migrate"]]
    assert [each["args"] for each in pod["containers"]] == [["streams", "ensure"]]
    made = {each["metadata"]["name"] for each in found if each["kind"] in ("Secret", "ConfigMap")}
    assert {volume.get("configMap", {}).get("name") for volume in pod["volumes"]}.isdisjoint(made)


def test_a_database_of_the_same_release_is_migrated_by_persistence() -> None:
    found = render({"migration": {"run": "init"}})

    assert "migrate" not in of_kind("Job", found)
    pod = of_kind("Deployment", found)["persistence"]["spec"]["template"]["spec"]
    assert [each["args"] for each in pod["initContainers"]] == [["migrate"], ["streams", "ensure"]]


def test_views_apart_leave_ingest_to_persistence() -> None:
    alone, apart = (
        {name: each["spec"]["template"]["spec"]["containers"][0].get("args") for name, each in found.items()}
        for found in (
            of_kind("Deployment", render({})),
            of_kind("Deployment", render({"projections": {"enabled": True}})),
        )
    )

    assert alone["persistence"] == ["run"]
    assert apart["persistence"] == ["run", "--no-views"]
    assert apart["projections"] == ["run", "--no-ingest"]


def test_entrances_lead_to_their_service() -> None:
    route = {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["api.example.com"]}
    ingress = {"enabled": True, "host": "api.example.com"}
    found = render({"sessionApi": {"httpRoute": route, "ingress": ingress}}, apis=(GATEWAY,))

    service = of_kind("Service", found)["session-api"]["metadata"]["name"]
    [rule] = of_kind("HTTPRoute", found)["session-api"]["spec"]["rules"]
    [host] = of_kind("Ingress", found)["session-api"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": service, "port": 80}]
    assert host["http"]["paths"][0]["backend"]["service"] == {"name": service, "port": {"name": "http"}}


def test_the_notes_say_how_to_begin_and_what_may_be_regretted(tmp_path: Path) -> None:
    notes = notes_of({"sessionApi": {"replicas": 1}, "agentWorker": {"longestCallSeconds": 60}}, tmp_path)

    assert "helm test voice -n apps" in notes
    assert "kubectl -n apps port-forward svc/voice-session-api 8000:80" in notes
    assert "http://voice-webhook-ingest.apps.svc:80/api/v1/webhooks/livekit" in notes
    assert "session-api     1 pod\n" in notes
    assert "sessionApi.replicas is 1" in notes
    assert "agentWorker.longestCallSeconds is 60" in notes


def test_the_notes_of_careful_values_warn_of_nothing(tmp_path: Path) -> None:
    careful = over(FULL, {"sessionApi": {"bootstrapKeySecret": ""}})

    assert "Look at these values" not in notes_of(careful, tmp_path)


def notes_of(values: dict[str, Any], folder: Path) -> str:
    """Return the notes, as a template of a copy of the chart: `helm template` leaves them out."""
    chart = folder / "antiphon"
    shutil.copytree(CHART, chart)
    notes = chart / "templates" / "NOTES.txt"
    text = notes.read_text()
    notes.unlink()
    define = '{{- define "notes" }}' + text + '{{ end }}\nnotes: |\n  {{- include "notes" . | nindent 2 }}\n'
    (chart / "templates" / "notes.yaml").write_text(define)
    rendered = template(over(MINIMAL, values), chart=chart, show="templates/notes.yaml")
    notes_text: str = yaml.safe_load(rendered)["notes"]
    return notes_text


def environment(pod: Object) -> dict[str, str]:
    [container] = pod["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}
