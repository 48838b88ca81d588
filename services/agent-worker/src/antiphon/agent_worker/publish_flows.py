"""Publish a folder of flow files as immutable revisions that sessions can name."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from antiphon.agent_worker.assignment import FLOWS_BUCKET
from antiphon.agent_worker.flow import Flow, FlowProblem, InvalidFlow, load_flow
from antiphon.chassis.bus import Bucket, Bus, KeyExists


class FlowRevision(msgspec.Struct, frozen=True, kw_only=True):
    """What the bucket holds of one revision of a flow."""

    flow_id: str
    revision: int
    name: str
    description: str
    language: str
    source: str
    sha256: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Published:
    """Say which revision of a flow is the newest now, and whether it is new."""

    flow_id: str
    revision: int
    new: bool


def read_flows(folder: Path) -> list[tuple[Flow, str]]:
    """Load every flow file of a folder, with its text.

    Raises InvalidFlow with every problem of every file.
    """
    flows: list[tuple[Flow, str]] = []
    problems: list[FlowProblem] = []
    files: dict[str, Path] = {}
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InvalidFlow([FlowProblem(str(folder), 1, "", "holds no flow files (*.yaml)")])
    for path in paths:
        try:
            flow = load_flow(path)
        except InvalidFlow as invalid:
            problems += invalid.problems
            continue
        if flow.id in files:
            problems.append(FlowProblem(str(path), 1, "id", f"{flow.id} is also in {files[flow.id]}"))
        files[flow.id] = path
        flows.append((flow, path.read_text(encoding="utf-8")))
    if problems:
        raise InvalidFlow(problems)
    return flows


async def publish_flows(
    bus: Bus, folder: Path, *, tenant: str, now: Callable[[], datetime]
) -> list[Published]:
    """Publish the flows of a folder; one that did not change keeps its revision.

    Raises InvalidFlow before anything is published.
    """
    flows = read_flows(folder)
    bucket = await bus.bucket(FLOWS_BUCKET)
    return [await _publish(bucket, flow, source, tenant, now()) for flow, source in flows]


async def _publish(bucket: Bucket, flow: Flow, source: str, tenant: str, at: datetime) -> Published:
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    revision = 0
    while True:
        stored = await bucket.get(f"{tenant}.{flow.id}.{revision + 1}")
        if stored is not None:
            revision += 1
            newest = msgspec.json.decode(stored, type=FlowRevision).sha256
            continue
        if revision and newest == sha256:
            return Published(flow.id, revision, new=False)
        record = FlowRevision(
            flow_id=flow.id,
            revision=revision + 1,
            name=flow.name,
            description=flow.description,
            language=flow.language,
            source=source,
            sha256=sha256,
            created_at=at,
        )
        try:
            await bucket.create(f"{tenant}.{flow.id}.{revision + 1}", msgspec.json.encode(record))
        except KeyExists:  # somebody publishes at the same moment
            continue
        return Published(flow.id, revision + 1, new=True)
