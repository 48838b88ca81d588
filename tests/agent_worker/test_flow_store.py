from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from antiphon.agent_worker.flow import InvalidFlow
from antiphon.agent_worker.flow_store import FlowRevision, Published, publish_flows, read_flows
from antiphon.chassis.bus import Bus

FLOW = (Path(__file__).parents[2] / "flows" / "booking.yaml").read_text()
AT = datetime(2026, 1, 2, tzinfo=UTC)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write flow files into a folder, and return the folder."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


async def publish(bus: Bus, folder: Path, tenant: str = "default") -> list[Published]:
    return await publish_flows(bus, folder, tenant=tenant, now=lambda: AT)


async def test_published_revision_has_every_field(bus: Bus, write: Write) -> None:
    assert await publish(bus, write(booking=FLOW)) == [Published("booking", 1, new=True)]
    bucket = await bus.bucket("flows")
    stored = await bucket.get("default.booking.1")
    assert stored is not None
    record = msgspec.json.decode(stored, type=FlowRevision)
    assert (record.flow_id, record.revision, record.language) == ("booking", 1, "en")
    assert record.source == FLOW
    assert record.created_at == AT


async def test_unchanged_flow_keeps_its_revision(bus: Bus, write: Write) -> None:
    await publish(bus, write(booking=FLOW))
    assert await publish(bus, write(booking=FLOW)) == [Published("booking", 1, new=False)]
    assert await (await bus.bucket("flows")).keys() == ["default.booking.1"]


async def test_changed_flow_gets_the_next_revision_and_the_old_one_is_kept(bus: Bus, write: Write) -> None:
    await publish(bus, write(booking=FLOW))
    changed = FLOW.replace("name: Table desk", "name: Front desk")
    assert await publish(bus, write(booking=changed)) == [Published("booking", 2, new=True)]
    bucket = await bus.bucket("flows")
    assert await bucket.keys() == ["default.booking.1", "default.booking.2"]
    first = await bucket.get("default.booking.1")
    assert first is not None
    assert msgspec.json.decode(first, type=FlowRevision).source == FLOW


async def test_reverted_flow_is_a_new_revision(bus: Bus, write: Write) -> None:
    changed = FLOW.replace("name: Table desk", "name: Front desk")
    for text in (FLOW, changed, FLOW):
        published = await publish(bus, write(booking=text))
    assert published == [Published("booking", 3, new=True)]


async def test_tenants_have_separate_flows(bus: Bus, write: Write) -> None:
    await publish(bus, write(booking=FLOW))
    await publish(bus, write(booking=FLOW), tenant="other")
    assert await (await bus.bucket("flows")).keys() == ["default.booking.1", "other.booking.1"]


async def test_invalid_flow_prevents_publishing(bus: Bus, write: Write) -> None:
    wrong = FLOW.replace("id: booking", "id: other").replace("entry: host", "entry: nobody")
    with pytest.raises(InvalidFlow):
        await publish(bus, write(booking=FLOW, wrong=wrong))
    assert await (await bus.bucket("flows")).keys() == []


def test_problems_of_all_files_are_reported(write: Write) -> None:
    folder = write(one="id: [", two=FLOW.replace("entry: host", "entry: nobody"))
    with pytest.raises(InvalidFlow) as caught:
        read_flows(folder)
    assert {Path(problem.file).name for problem in caught.value.problems} == {"one.yaml", "two.yaml"}
    assert all(problem.line >= 1 for problem in caught.value.problems)


def test_two_files_with_the_same_id_are_a_problem(write: Write) -> None:
    with pytest.raises(InvalidFlow, match="booking is also the id of"):
        read_flows(write(one=FLOW, two=FLOW))


def test_folder_without_flows_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(InvalidFlow, match="no flow files"):
        read_flows(tmp_path)
