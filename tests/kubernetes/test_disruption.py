"""Evictions and drained nodes: a service is never without the pods that its budget keeps."""

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.kubernetes.control_plane import wait_for
from tests.kubernetes.figures import Figures
from tests.kubernetes.release import NAME, Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("disruption")
    release.install()
    return release


def test_the_second_pod_is_not_evicted_before_the_first_is_replaced(release: Release) -> None:
    wait_for("the budget knows the pods", lambda: _allowed(release) == 1)
    first, second = (pod["metadata"]["name"] for pod in release.pods("session-api"))
    for node in ("n1", "n2"):
        release.plane.kubectl("cordon", node)  # the new pod waits for a node
    try:
        assert _evict(release, first).status_code == httpx.codes.CREATED
        wait_for("one pod is ready", lambda: release.replicas("session-api") == (2, 1))
        refused = _evict(release, second)
    finally:
        for node in ("n1", "n2"):
            release.plane.kubectl("uncordon", node)

    assert refused.status_code == httpx.codes.TOO_MANY_REQUESTS
    assert "disruption budget" in refused.json()["message"]
    release.until_replicas("session-api", 2)
    assert second in [pod["metadata"]["name"] for pod in release.pods("session-api")]


def test_a_node_is_drained_and_all_pods_are_ready_elsewhere(release: Release, figures: Figures) -> None:
    try:
        with figures.measure("kubectl drain of one of two nodes"):
            release.plane.kubectl(
                "drain", "n1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s", seconds=300
            )
        for component in ("session-api", "webhook-ingest", "persistence", "agent-worker"):
            release.until_replicas(component, 2)
            assert {pod["spec"]["nodeName"] for pod in release.pods(component)} == {"n2"}
    finally:
        release.plane.kubectl("uncordon", "n1")


def _allowed(release: Release) -> int:
    budget = release.get("poddisruptionbudget", f"{NAME}-session-api")
    return int(budget.get("status", {}).get("disruptionsAllowed", 0))


def _evict(release: Release, pod: str) -> httpx.Response:
    where = {"name": pod, "namespace": release.namespace}
    with release.plane.client() as client:
        return client.post(
            f"/api/v1/namespaces/{release.namespace}/pods/{pod}/eviction",
            json={"apiVersion": "policy/v1", "kind": "Eviction", "metadata": where},
        )
