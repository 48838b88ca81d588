"""Agent workers by calls: the real fleet service counts them, and writes which pods are idle.

It asks the API server with the token of its own ServiceAccount, and KEDA asks it by the name of its Service.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kubernetes.control_plane import wait_for
from tests.kubernetes.figures import Figures
from tests.kubernetes.heartbeats import Workers
from tests.kubernetes.release import NAME, Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

COST = "controller.kubernetes.io/pod-deletion-cost"
PER_POD = 10
VALUES = {
    "agentWorker": {
        "callsPerPod": PER_POD,
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 8, "pollingIntervalSeconds": 2},
    },
    "fleet": {"warmCalls": 5},
}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("calls")
    release.install(VALUES)
    release.hurry("scaledobject", "agent-worker")
    return release


@pytest.fixture(scope="module")
def workers(release: Release) -> Iterator[Workers]:
    workers = Workers(release.nats.url, capacity=PER_POD)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def fleet(release: Release, workers: Workers) -> Iterator[None]:
    workers.have(dict.fromkeys(_pods(release), 0))
    account = _mounted_account(release)
    with release.service(
        "fleet", ANTIPHON_FLEET_API_SERVER=release.plane.url, ANTIPHON_FLEET_SERVICE_ACCOUNT=str(account)
    ):
        yield


@pytest.mark.usefixtures("fleet")
def test_calls_up_workers_up_and_only_idle_ones_go(
    release: Release, workers: Workers, figures: Figures
) -> None:
    release.until_replicas("agent-worker", 2)
    first = _pods(release)
    workers.have(dict.fromkeys(first, 20))  # 40 calls and 5 warm ones, of 9 for each pod

    figures.add("agent-worker 2 → 5: 0 → 40 calls", release.until_replicas("agent-worker", 5))

    pods = _pods(release)
    busy, idle = pods[:2] + pods[-1:], pods[2:-1]
    nobody = dict.fromkeys(idle, 0)
    # what is wanted stays within the tolerance of the HPA, a tenth, until all costs are written
    taken = {**dict(zip(busy, (20, 20, 3), strict=True)), **nobody}
    workers.have(taken)
    wait_for("each pod has its cost", lambda: _costs(release) == taken)

    workers.have({**dict.fromkeys(busy, 7), **nobody})  # 21 and 5 warm ones: 3 pods
    figures.add("agent-worker 5 → 3: 43 → 21 calls, idle pods go", release.until_replicas("agent-worker", 3))

    assert sorted(_pods(release)) == sorted(busy)


@pytest.mark.usefixtures("fleet")
def test_the_pods_stay_while_fleet_does_not_know(release: Release, workers: Workers) -> None:
    before = _pods(release)
    workers.have({})  # no worker is heard

    wait_for("KEDA falls back", lambda: _falls_back(release))

    assert _pods(release) == before


def _pods(release: Release) -> list[str]:
    pods = sorted(release.pods("agent-worker"), key=lambda pod: pod["metadata"]["creationTimestamp"])
    return [pod["metadata"]["name"] for pod in pods]


def _costs(release: Release) -> dict[str, int]:
    pods = release.pods("agent-worker")
    return {pod["metadata"]["name"]: int(pod["metadata"].get("annotations", {}).get(COST, 0)) for pod in pods}


def _falls_back(release: Release) -> bool:
    conditions = release.get("scaledobject", f"{NAME}-agent-worker")["status"]["conditions"]
    return {"Fallback": "True"}.items() <= {each["type"]: each["status"] for each in conditions}.items()


def _mounted_account(release: Release) -> Path:
    """Return what the kubelet mounts for fleet: the token of its account, the authority and the namespace."""
    folder = release.folder / "serviceaccount"
    folder.mkdir()
    token = release.kubectl("create", "token", f"{NAME}-fleet", "--duration=1h")
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(release.plane.authority.read_bytes())
    (folder / "namespace").write_text(release.namespace)
    return folder
