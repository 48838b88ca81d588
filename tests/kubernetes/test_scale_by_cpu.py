"""Session-api and webhook-ingest by CPU: an HPA, and a metrics server that reads what the nodes say."""

from typing import TYPE_CHECKING

import pytest
from tests.kubernetes.figures import Figures
from tests.kubernetes.release import Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

USAGE = "kwok.x-k8s.io/usage-cpu"
SCALED = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4}}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("cpu")
    release.install({"sessionApi": SCALED, "webhookIngest": SCALED})
    for component in ("session-api", "webhook-ingest"):
        release.hurry("hpa", component)
    return release


def test_session_api_follows_its_cpu_and_no_other_service_does(release: Release, figures: Figures) -> None:
    release.until_replicas("session-api", 2)
    _use(release, "session-api", "300m")  # of 250m, of which 70 % are aimed at: 600 / 175

    figures.add("session-api 2 → 4: CPU at 120 % of the request", release.until_replicas("session-api", 4))
    assert release.replicas("webhook-ingest") == (2, 2)

    _use(release, "session-api", "10m")
    figures.add("session-api 4 → 2: CPU at 4 %", release.until_replicas("session-api", 2))


def _use(release: Release, component: str, cpu: str) -> None:
    for pod in release.pods(component):
        release.kubectl("annotate", "pod", pod["metadata"]["name"], f"{USAGE}={cpu}", "--overwrite")
