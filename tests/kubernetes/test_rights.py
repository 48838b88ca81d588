"""What each ServiceAccount may do at the API server: fleet a little, all others nothing."""

from typing import TYPE_CHECKING

import pytest
from tests.kubernetes.control_plane import CommandFailed
from tests.kubernetes.release import NAME, Release

if TYPE_CHECKING:
    from tests.kubernetes.conftest import NewRelease

WITHOUT_RIGHTS = ("session-api", "webhook-ingest", "persistence", "agent-worker")
QUESTIONS = [
    (verb, resource)
    for resource in ("pods", "secrets", "configmaps", "deployments.apps", "jobs.batch", "pods/exec")
    for verb in ("get", "list", "create", "patch", "delete")
]
OF_FLEET = {("get", "pods"), ("list", "pods"), ("patch", "pods")}


@pytest.fixture(scope="module")
def release(new_release: "NewRelease") -> Release:
    release = new_release("rights")
    release.install()
    return release


@pytest.mark.parametrize("component", WITHOUT_RIGHTS)
def test_a_service_may_do_nothing(release: Release, component: str) -> None:
    assert {question for question in QUESTIONS if _may(release, component, *question)} == set()


def test_fleet_may_read_pods_and_write_on_them(release: Release) -> None:
    assert {question for question in QUESTIONS if _may(release, "fleet", *question)} == OF_FLEET


def test_kubectl_says_the_same(release: Release) -> None:
    account = f"--as=system:serviceaccount:{release.namespace}:{NAME}-fleet"

    assert release.kubectl("auth", "can-i", "patch", "pods", account).strip() == "yes"
    with pytest.raises(CommandFailed, match=r"\nno"):
        release.kubectl("auth", "can-i", "delete", "pods", account)


def test_fleet_may_do_nothing_elsewhere(release: Release) -> None:
    assert not any(_may(release, "fleet", *question, namespace="kube-system") for question in OF_FLEET)


def test_only_fleet_gets_a_token(release: Release) -> None:
    with_token = {
        name for name in (*WITHOUT_RIGHTS, "fleet")
        if any(volume.get("projected") for volume in release.pods(name)[0]["spec"]["volumes"])
    }  # fmt: skip

    assert with_token == {"fleet"}


def _may(release: Release, component: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Ask what `kubectl auth can-i VERB RESOURCE --as=ACCOUNT` asks."""
    account = f"system:serviceaccount:{release.namespace}:{NAME}-{component}"
    where = namespace or release.namespace
    name, _, subresource = resource.partition("/")
    name, _, group = name.partition(".")
    asked = {"namespace": where, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    with release.plane.client() as client:
        answer = client.post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            json={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            },
            headers={"Impersonate-User": account},
        )
    return bool(answer.raise_for_status().json()["status"]["allowed"])
