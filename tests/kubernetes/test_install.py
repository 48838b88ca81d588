"""The chart in a restricted namespace: what is installed works, and what is removed leaves nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.kubernetes.chart import CHART, EXAMPLES
from tests.kubernetes.control_plane import CommandFailed, wait_for
from tests.kubernetes.figures import Figures
from tests.kubernetes.release import NAME, Release

from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit import LiveKitServer
from antiphon.cli.stack.livekit_build import find_livekit
from antiphon.persistence.migrations import head

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

SERVICES = {"session-api": 2, "webhook-ingest": 2, "persistence": 2, "agent-worker": 2, "fleet": 1}
# what a namespace has of its own accord, or of ours
NOT_OF_THE_CHART = ("event", "configmap/kube-root-ca.crt", "serviceaccount/default", "secret/antiphon-")


@pytest.fixture(scope="module")
def release(new_release: "NewRelease", figures: Figures) -> Release:
    release = new_release("install")
    with figures.measure("helm install --wait: migration, then all pods ready"):
        release.install()
    return release


def test_every_service_has_its_ready_replicas(release: Release) -> None:
    for name, count in SERVICES.items():
        release.until_replicas(name, count)


def test_the_migration_has_made_the_schema_and_the_streams(release: Release) -> None:
    migration = release.runner.of(release.namespace)[0]

    assert (migration.started, migration.code) == (["migrate", "streams"], 0)
    assert "16 consumers, 6 buckets" in migration.text()
    assert release.query("select version_num from alembic_version") == head()


def test_the_pods_of_a_service_are_in_both_zones(release: Release) -> None:
    for name in ("session-api", "persistence", "agent-worker"):
        assert {pod["spec"]["nodeName"] for pod in release.pods(name)} == {"n1", "n2"}


def test_the_namespace_refuses_pods_that_are_not_restricted(release: Release) -> None:
    deployment: dict[str, Any] = release.get("deployment", f"{NAME}-fleet")
    pod = {**deployment["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] = {"name": "as-root", "namespace": release.namespace}
    pod["spec"]["containers"][0]["securityContext"] = {"runAsUser": 0, "runAsNonRoot": False}

    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        release.plane.apply(pod)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_every_field_of_an_example(release: Release, example: Path) -> None:
    # this control plane has no Prometheus operator, whose kinds are refused without it
    without = [f"--set=metrics.{kind}.enabled=false" for kind in ("podMonitor", "prometheusRule")]
    rendered = release.helm("template", NAME, str(CHART), "-f", str(example), *without, "--validate")

    taken = _dry_run(release, rendered)

    assert len(taken) == len([document for document in yaml.safe_load_all(rendered) if document])


def test_the_api_server_refuses_a_field_that_it_does_not_know(release: Release) -> None:
    rendered = release.rendered().replace("maxUnavailable: 0", "maxUnavailabel: 0", 1)

    with pytest.raises(CommandFailed, match=r"unknown field .*maxUnavailabel"):
        _dry_run(release, rendered)


def test_helm_test_fails_while_no_session_api_answers(release: Release) -> None:
    with pytest.raises(CommandFailed, match=r"(?i)failed"):
        release.helm("test", NAME, "--timeout=240s")

    last = release.runner.of(release.namespace)[-1]
    assert (last.started, last.code != 0) == (["first-session"], True)


def test_helm_test_makes_a_real_session_request(release: Release, figures: Figures) -> None:
    livekit = LiveKitServer(
        release.folder / "livekit",
        program=find_livekit(StackSettings().cache, lambda _: None),
        keys=release.livekit_keys,
    )
    livekit.start(timeout_seconds=180)
    try:
        with (
            release.service("persistence"),
            release.service("session-api", LIVEKIT_URL=livekit.url),
            figures.measure("helm test: a session is created, read and ended"),
        ):
            release.helm("test", NAME, "--timeout=240s")
    finally:
        livekit.stop()

    test = release.runner.of(release.namespace)[-1]
    assert (test.started, test.code) == (["first-session"], 0), test.text()


def test_uninstall_leaves_nothing(release: Release, figures: Figures) -> None:
    with figures.measure("helm uninstall --wait"):
        release.helm("uninstall", NAME, "--wait", "--timeout=300s")

    wait_for("nothing is left", lambda: _objects(release) == [])


def _dry_run(release: Release, rendered: str) -> list[str]:
    """Let the API server check objects, with every field, and return what it would have created."""
    return release.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", text=rendered
    ).split()


def _objects(release: Release) -> list[str]:
    kinds = release.plane.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    wanted = ",".join(kind for kind in kinds if "metrics" not in kind and not kind.startswith("events"))
    found = release.kubectl("get", wanted, "-o", "name", "--ignore-not-found").split()
    return [name for name in found if not name.startswith(NOT_OF_THE_CHART)]
