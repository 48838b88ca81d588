"""The annotations follow the calls: what changed is written, the busiest first, and nothing else."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.fleet.api_server import ApiServer, serve
from tests.fleet.conftest import Beat, Clock

from antiphon.fleet.deletion_costs import LIST_SECONDS, NEW_POD_SECONDS, PATCHES_PER_PASS, DeletionCosts
from antiphon.fleet.pods import connect
from antiphon.fleet.settings import FleetSettings
from antiphon.fleet.workers import RECENT_SECONDS, Workers


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    with serve(tmp_path) as double:
        yield double


@pytest.fixture
def workers(clock: Clock) -> Workers:
    known = Workers(clock, silent_seconds=1000)
    known.listening()
    return known


@pytest.fixture
async def costs(api_server: ApiServer, workers: Workers, clock: Clock) -> AsyncIterator[DeletionCosts]:
    pods = connect(FleetSettings(api_server=api_server.url, service_account=api_server.folder))
    yield DeletionCosts(workers, pods, clock)
    await pods.close()


async def test_what_changed_is_written_once(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat
) -> None:
    for name in ("busy", "idle", "same"):
        api_server.add(f"pod-{name}", {"same": "2"}.get(name))
    workers.hear(beat("busy", 3))
    workers.hear(beat("idle"))
    workers.hear(beat("same", 2))

    assert await costs.write() == 1
    assert await costs.write() == 0

    assert api_server.patched() == ["pod-busy"]
    assert api_server.cost("pod-busy") == "3"
    assert api_server.cost("pod-idle") is None  # it is 0 for Kubernetes


async def test_a_pod_whose_calls_ended_costs_nothing_after_some_seconds(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat, clock: Clock
) -> None:
    api_server.add("pod-a")
    written = []
    for active in (1, 2, 0):
        workers.hear(beat("a", active))
        await costs.write()
        written.append(api_server.cost("pod-a"))
    clock.now += RECENT_SECONDS
    workers.hear(beat("a", 0))
    await costs.write()

    assert [*written, api_server.cost("pod-a")] == ["1", "2", "1", "0"]


async def test_pods_without_the_labels_are_never_written(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat
) -> None:
    workers.hear(beat("elsewhere", 3))

    with capture_logs() as logs:
        assert await costs.write() == 0

    assert [entry["pods"] for entry in logs if entry["event"] == "pods.without_the_labels"] == [
        ["pod-elsewhere"]
    ]
    assert api_server.patched() == []


async def test_a_pass_is_limited_and_begins_with_who_became_busiest(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat
) -> None:
    total = PATCHES_PER_PASS + 5
    for number in range(total):
        api_server.add(f"pod-{number:02}")
        workers.hear(beat(f"{number:02}", number + 1))

    assert [await costs.write() for _ in range(3)] == [PATCHES_PER_PASS, 5, 0]
    assert api_server.patched() == [f"pod-{number:02}" for number in reversed(range(total))]


async def test_a_new_pod_is_found_and_a_deleted_one_forgotten(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat, clock: Clock
) -> None:
    await costs.write()
    api_server.add("pod-new")
    workers.hear(beat("new", 1))
    await costs.write()
    assert api_server.patched() == []  # not asked for again so soon
    clock.now += NEW_POD_SECONDS
    await costs.write()
    assert api_server.cost("pod-new") == "1"

    del api_server.pods["pod-new"]
    workers.hear(beat("new", 2))
    await costs.write()
    await costs.write()
    assert api_server.patched() == ["pod-new", "pod-new"]  # the second one found nothing


async def test_what_others_write_is_noticed(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat, clock: Clock
) -> None:
    api_server.add("pod-a")
    workers.hear(beat("a", 2))
    await costs.write()
    api_server.add("pod-a", "-100")
    clock.now += LIST_SECONDS
    await costs.write()

    assert api_server.cost("pod-a") == "2"


async def test_a_second_replica_changes_nothing(
    api_server: ApiServer, workers: Workers, costs: DeletionCosts, beat: Beat, clock: Clock
) -> None:
    api_server.add("pod-a")
    workers.hear(beat("a", 2))
    await costs.write()
    pods = connect(FleetSettings(api_server=api_server.url, service_account=api_server.folder))

    assert await DeletionCosts(workers, pods, clock).write() == 0
    await pods.close()
