"""The control plane itself: that it is what the other tests take it for."""

import json

import psutil
import pytest
from tests.kubernetes.build import replacements
from tests.kubernetes.control_plane import CommandFailed, ControlPlane
from tests.kubernetes.programs import KUBERNETES, PROGRAMS, Built


def test_it_is_kubernetes_of_the_pinned_version(plane: ControlPlane) -> None:
    assert json.loads(plane.kubectl("get", "--raw", "/version"))["gitVersion"] == f"v{KUBERNETES}"


def test_two_nodes_are_in_two_zones(plane: ControlPlane) -> None:
    nodes = plane.get("nodes")["items"]

    assert {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes} == {
        "zone-a",
        "zone-b",
    }


def test_it_serves_what_autoscalers_need(plane: ControlPlane) -> None:
    groups = plane.kubectl("api-versions").split()

    assert {"keda.sh/v1alpha1", "metrics.k8s.io/v1beta1", "external.metrics.k8s.io/v1beta1"} <= set(groups)


def test_the_api_server_checks_fields(plane: ControlPlane) -> None:
    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[],"wrong":1}}'

    with pytest.raises(CommandFailed, match=r'unknown field "spec\.wrong"'):
        plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=pod)


def test_a_second_one_runs_beside_it_and_leaves_nothing(
    plane: ControlPlane, bare_plane: ControlPlane
) -> None:
    bare_plane.kubectl("create", "namespace", "only-here")
    assert "only-here" not in plane.kubectl("get", "namespaces")
    running = bare_plane.processes()

    bare_plane.stop()

    assert (len(running), bare_plane.processes()) == (5, {})
    assert not any(psutil.pid_exists(pid) for pid in running.values())
    assert plane.kubectl("get", "nodes", "-o", "name").split() == ["node/n1", "node/n2"]


def test_a_program_that_is_not_built_is_missing(built: Built) -> None:
    elsewhere = Built(built.folder / "nowhere")

    assert built.missing() == []
    assert (elsewhere.missing(), elsewhere.complete()) == (list(PROGRAMS), False)


def test_the_parts_of_kubernetes_are_taken_from_where_they_are_published() -> None:
    kubelet, keda = PROGRAMS[1], next(program for program in PROGRAMS if program.name == "keda-operator")
    staged = "replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n"
    block = "replace (\n\ta => b v1.0.0\n\te => ../e\n)\n\nreplace c => d v2.0.0\nreplace g => ./g\n"

    assert replacements(staged, kubelet) == f"replace k8s.io/api => k8s.io/api v0.{KUBERNETES[2:]}\n"
    assert replacements(block, keda) == "replace (\n\ta => b v1.0.0\n)\nreplace c => d v2.0.0\n"
