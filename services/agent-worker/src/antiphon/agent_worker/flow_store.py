"""Flows in the `flows` bucket: immutable revisions under `{tenant}.{flow id}.{revision}`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from antiphon.agent_worker.flow import Flow, FlowProblem, InvalidFlow, load_flow
from antiphon.agent_worker.providers.table import CATALOG
from antiphon.chassis.bus import Bucket, Bus, KeyExists

FLOWS_BUCKET = "flows"


class FlowRevision(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a key: the source of a flow, and what lists of flows show."""

    flow_id: str
    revision: int
    name: str
    description: str
    language: str
    source: str
    sha256: str
    created_at: datetime
    greeting: str = ""


class _Source(msgspec.Struct):
    source: str


@dataclass(frozen=True, slots=True)
class Published:
    """The newest revision of a flow, and whether it was created by this call."""

    flow_id: str
    revision: int
    new: bool


def read_flows(folder: Path) -> list[tuple[Flow, str]]:
    """Load every `*.yaml` file of a folder; return the flows and their source.

    Raises InvalidFlow with every problem of every file.
    """
    flows: list[tuple[Flow, str]] = []
    problems: list[FlowProblem] = []
    files: dict[str, Path] = {}
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InvalidFlow([FlowProblem(str(folder), 1, "", "no flow files (*.yaml) in this folder")])
    for path in paths:
        try:
            flow = load_flow(path, CATALOG)
        except InvalidFlow as invalid:
            problems += invalid.problems
            continue
        if flow.id in files:
            problems.append(FlowProblem(str(path), 1, "id", f"{flow.id} is also the id of {files[flow.id]}"))
        files[flow.id] = path
        flows.append((flow, path.read_text(encoding="utf-8")))
    if problems:
        raise InvalidFlow(problems)
    return flows


async def publish_flows(
    bus: Bus, folder: Path, *, tenant: str, now: Callable[[], datetime]
) -> list[Published]:
    """Publish the flows of a folder; a flow that has not changed keeps its revision.

    Raises InvalidFlow before anything is published.
    """
    flows = read_flows(folder)
    bucket = await bus.bucket(FLOWS_BUCKET)
    return [await _publish(bucket, flow, source, tenant, now()) for flow, source in flows]


async def _publish(bucket: Bucket, flow: Flow, source: str, tenant: str, at: datetime) -> Published:
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    newest: FlowRevision | None = None
    number = 1
    while True:
        while (stored := await bucket.get(_key(tenant, flow.id, number))) is not None:
            newest = msgspec.json.decode(stored, type=FlowRevision)
            number += 1
        if newest is not None and newest.sha256 == sha256:
            return Published(flow.id, newest.revision, new=False)
        revision = FlowRevision(
            flow_id=flow.id,
            revision=number,
            name=flow.name,
            description=flow.description,
            language=flow.language,
            source=source,
            sha256=sha256,
            created_at=at,
            greeting=flow.greeting,
        )
        try:
            await bucket.create(_key(tenant, flow.id, number), msgspec.json.encode(revision))
        except KeyExists:  # published concurrently: compare with that revision
            continue
        return Published(flow.id, number, new=True)


async def read_revision(bus: Bus, tenant: str, flow_id: str, revision: int) -> str | None:
    """Return the source of a flow's revision, or None if there is none. Raises BusError."""
    bucket = await bus.bucket(FLOWS_BUCKET)
    stored = await bucket.get(_key(tenant, flow_id, revision))
    return None if stored is None else msgspec.json.decode(stored, type=_Source).source


def _key(tenant: str, flow_id: str, revision: int) -> str:
    return f"{tenant}.{flow_id}.{revision}"
