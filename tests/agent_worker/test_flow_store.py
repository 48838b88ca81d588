import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from antiphon.agent_worker.flow import InvalidFlow
from antiphon.agent_worker.flow_store import Published, publish_flows, read_flows
from antiphon.chassis.bus import Bus
from antiphon.contracts.flows import FlowRevision

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


async def test_replicas_that_start_together_make_one_revision(bus: Bus, write: Write) -> None:
    folder = write(booking=FLOW, other=FLOW.replace("id: booking", "id: other", 1))
    for number, text in enumerate((FLOW, FLOW + "\n# changed\n"), start=1):
        write(booking=text)
        published = await asyncio.gather(*(publish(bus, folder) for _ in range(6)))
        assert {(one.flow_id, one.revision) for flows in published for one in flows} == {
            ("booking", number),
            ("other", 1),
        }
        assert sum(flow.new for flows in published for flow in flows if flow.flow_id == "booking") == 1
    assert await (await bus.bucket("flows")).keys() == [
        "default.booking.1",
        "default.booking.2",
        "default.other.1",
    ]


async def test_a_file_that_has_not_changed_does_not_undo_what_was_published_over_http(
    bus: Bus, write: Write
) -> None:
    """A stack that is restarted publishes its files again."""
    await publish(bus, write(booking=FLOW))
    bucket = await bus.bucket("flows")
    stored = await bucket.get("default.booking.1")
    assert stored is not None
    first = msgspec.json.decode(stored, type=FlowRevision)
    assert first.origin == "files"
    over_http = msgspec.structs.replace(first, revision=2, sha256="0" * 64, origin="http")
    await bucket.create("default.booking.2", msgspec.json.encode(over_http))

    assert await publish(bus, write(booking=FLOW)) == [Published("booking", 2, new=False)]
    assert await publish(bus, write(booking=FLOW + "\n# mine\n")) == [Published("booking", 3, new=True)]
    # and back: the file has changed
    assert await publish(bus, write(booking=FLOW)) == [Published("booking", 4, new=True)]


async def test_a_file_with_a_command_replaces_the_same_source_that_came_over_http(
    bus: Bus, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command runs in flows of files only, and the error says to publish the file."""
    monkeypatch.delenv("ANTIPHON_AGENT_MCP_COMMANDS", raising=False)
    desk = FLOW.replace("tools:\n", "tools:\n  desk: {mcp: {command: [python, desk.py]}}\n", 1)
    assert await publish(bus, write(booking=desk)) == [Published("booking", 1, new=True)]
    bucket = await bus.bucket("flows")
    stored = await bucket.get("default.booking.1")
    assert stored is not None
    first = msgspec.json.decode(stored, type=FlowRevision)
    over_http = msgspec.structs.replace(first, revision=2, origin="http")  # while commands were allowed
    await bucket.create("default.booking.2", msgspec.json.encode(over_http))

    folder = write(booking=desk)
    published = await asyncio.gather(*(publish(bus, folder) for _ in range(4)))
    assert {one.revision for [one] in published} == {3}
    assert sum(one.new for [one] in published) == 1
    newest = await bucket.get("default.booking.3")
    assert newest is not None
    assert msgspec.json.decode(newest, type=FlowRevision).origin == "files"


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
