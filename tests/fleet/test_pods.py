"""The pods at the API server: read page by page, written one by one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from tests.fleet.api_server import ApiServer, serve

from antiphon.fleet.pods import ApiServerRefused, NotOnKubernetes, Pods, connect
from antiphon.fleet.settings import FleetSettings


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    with serve(tmp_path) as double:
        yield double


@pytest.fixture
async def pods(api_server: ApiServer) -> AsyncIterator[Pods]:
    settings = FleetSettings(api_server=api_server.url, service_account=api_server.folder)
    pods = connect(settings)
    yield pods
    await pods.close()


async def test_the_costs_of_all_pages_are_read(api_server: ApiServer, pods: Pods) -> None:
    for number in range(5):
        api_server.add(f"pod-{number}", str(number))
    api_server.add("new")
    api_server.add("leaving", "9", leaving=True)
    api_server.add("strange", "many")

    assert await pods.costs() == {f"pod-{number}": number for number in range(5)} | {
        "new": None,
        "strange": None,
    }


async def test_a_cost_is_written_beside_other_annotations(api_server: ApiServer, pods: Pods) -> None:
    api_server.add("pod-1", "3")

    assert await pods.set_cost("pod-1", 4)
    assert api_server.cost("pod-1") == "4"
    assert api_server.pods["pod-1"]["annotations"]["other"] == "kept"


async def test_a_pod_that_is_gone_is_no_error(pods: Pods) -> None:
    assert not await pods.set_cost("gone", 1)


async def test_a_new_token_is_read(api_server: ApiServer, pods: Pods) -> None:
    await pods.costs()
    api_server.token("second")

    assert await pods.costs() == {}


async def test_missing_rights_are_named(api_server: ApiServer, pods: Pods) -> None:
    api_server.refuse = 403

    with pytest.raises(ApiServerRefused, match=r"403 pods is forbidden .*needs the verbs list and patch"):
        await pods.costs()


async def test_another_authority_is_not_trusted(
    api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve(tmp_path_factory.mktemp("other")) as other:
        pods = connect(FleetSettings(api_server=api_server.url, service_account=other.folder))
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await pods.costs()
        await pods.close()


async def test_the_address_is_the_one_that_every_pod_is_told(api_server: ApiServer) -> None:
    port = api_server.url.rpartition(":")[2]
    told = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
    pods = connect(FleetSettings(service_account=api_server.folder), told)

    assert await pods.costs() == {}
    await pods.close()


def test_outside_of_kubernetes_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(NotOnKubernetes, match="ANTIPHON_FLEET_DELETION_COST is kubernetes, but"):
        connect(FleetSettings(), {})
    with pytest.raises(NotOnKubernetes, match="automountServiceAccountToken"):
        connect(FleetSettings(service_account=tmp_path), {"KUBERNETES_SERVICE_HOST": "::1"})
