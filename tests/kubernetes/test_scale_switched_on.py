"""An upgrade that gives a running service an autoscaler takes none of its pods away, nor does the next."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.kubernetes.release import Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

RUNNING = {"session-api": 3, "agent-worker": 4}
SWITCHED_ON: dict[str, Any] = {
    "sessionApi": {"autoscaling": {"enabled": True, "minReplicas": 2}},
    "agentWorker": {"autoscaling": {"enabled": True, "minReplicas": 2}},
}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("switched")
    release.install({"sessionApi": {"replicas": 3}, "agentWorker": {"replicas": 4}})
    return release


@pytest.mark.parametrize("upgrade", ["the first with an autoscaler", "the next"])
def test_no_pod_goes_when_autoscaling_is_switched_on(release: Release, upgrade: str) -> None:
    before = _pods(release)
    assert {name: len(pods) for name, pods in before.items()} == RUNNING, upgrade

    release.upgrade(SWITCHED_ON)

    assert _pods(release) == before


def test_a_release_that_begins_with_autoscaling_has_no_replicas(release: Release) -> None:
    rendered = release.rendered(
        SWITCHED_ON, "--set=fullnameOverride=other", "--show-only=templates/deployments.yaml"
    )

    deployments = [part for part in rendered.split("---") if "other-agent-worker" in part]
    assert "\n  replicas:" not in deployments[0]


def _pods(release: Release) -> dict[str, set[str]]:
    return {name: {pod["metadata"]["name"] for pod in release.pods(name)} for name in RUNNING}
