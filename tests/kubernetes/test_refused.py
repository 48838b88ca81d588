"""Values that only a server can refuse, and a cluster without KEDA: each with a message."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.kubernetes.chart import CHART
from tests.kubernetes.control_plane import CommandFailed, ControlPlane
from tests.kubernetes.release import NAME, Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a limit below the request": (
        {"sessionApi": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}},
        "must be less than or equal to memory limit",
    ),
    "a label that is none": (
        {"sessionApi": {"podLabels": {"team": "voice & video"}}},
        "(?i)invalid.*label",
    ),
    "an unknown field of an affinity": (
        {"persistence": {"affinity": {"nodeAffinity": {"sometimes": []}}}},
        "unknown field.*sometimes",
    ),
}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    return new_release("refused")


@pytest.mark.parametrize("name", REFUSED)
def test_the_api_server_refuses_with_a_message(release: Release, name: str) -> None:
    values, message = REFUSED[name]
    rendered = release.rendered(values)

    with pytest.raises(CommandFailed, match=message):
        release.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered)


def test_a_cluster_without_keda_is_told_to_install_it(bare_plane: ControlPlane, release: Release) -> None:
    values = release.write({"persistence": {"autoscaling": {"enabled": True}}})

    with pytest.raises(CommandFailed, match="needs KEDA, which this cluster does not have"):
        bare_plane.helm("install", NAME, str(CHART), f"--values={values}")

    assert bare_plane.helm("list", "--all", "-q") == ""
