"""Flows in their buckets: immutable revisions in `flows`, and drafts that test sessions run."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from antiphon.agent_worker.catalog import CATALOG
from antiphon.agent_worker.flow import Flow, FlowProblem, InvalidFlow, load_flow
from antiphon.agent_worker.flow_check import summary_of
from antiphon.chassis.audit import Audit, operator
from antiphon.chassis.bus import Bucket, Bus, KeyExists
from antiphon.contracts.audit import Act, ActKind
from antiphon.contracts.flows import FlowRevision, decode_revision, draft_key, revision_key
from antiphon.contracts.streams import FLOW_DRAFTS, FLOWS


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
    """Publish the flows of a folder whose file has changed since it was published from one.

    A file that has not changed does not replace what was published over HTTP meanwhile, unless that is the
    same with commands, which only flows of files may have. Several replicas may do it at once: they make one
    revision, which is on record first. Raises InvalidFlow before anything is published.
    """
    flows = read_flows(folder)
    bucket = await bus.bucket(FLOWS.name)
    audit = Audit(bus, now)
    return [await _publish(bucket, audit, flow, source, tenant, now()) for flow, source in flows]


async def _publish(
    bucket: Bucket, audit: Audit, flow: Flow, source: str, tenant: str, at: datetime
) -> Published:
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    newest: FlowRevision | None = None
    of_file: str | None = None  # the hash of the newest revision from a file
    number = 1
    while True:
        while (stored := await bucket.get(revision_key(tenant, flow.id, number))) is not None:
            newest = decode_revision(stored)
            of_file = newest.sha256 if newest.origin == "files" else of_file
            number += 1
        if (
            newest is not None
            and sha256 in (newest.sha256, of_file)
            and not _is_refused(flow, newest, sha256)
        ):
            return Published(flow.id, newest.revision, new=False)
        revision = FlowRevision(
            **msgspec.structs.asdict(summary_of(flow)),
            revision=number,
            source=source,
            sha256=sha256,
            created_at=at,
        )
        try:
            act = Act(ActKind.FLOW_PUBLISH, tenant, operator(), f"{flow.id}@{number}", {"sha256": sha256})
            async with audit.recorded(act):
                await bucket.create(revision_key(tenant, flow.id, number), msgspec.json.encode(revision))
        except KeyExists:  # published concurrently: compare with that revision
            continue
        return Published(flow.id, number, new=True)


def _is_refused(flow: Flow, newest: FlowRevision, sha256: str) -> bool:
    """Return whether calls may refuse the newest revision, and not the file that it is the same as."""
    if newest.origin == "files" or newest.sha256 != sha256:
        return False
    return any(tool.mcp is not None and tool.mcp.command is not None for tool in flow.tools.values())


async def read_revision(bus: Bus, tenant: str, flow_id: str, revision: int) -> FlowRevision | None:
    """Return a flow's revision, or None if there is none. Raises BusError, InvalidRecord."""
    return await _record(await bus.bucket(FLOWS.name), revision_key(tenant, flow_id, revision))


async def read_draft(bus: Bus, tenant: str, flow_id: str, sha256: str) -> FlowRevision | None:
    """Return a draft, or None if it is gone. Raises BusError, InvalidRecord."""
    return await _record(await bus.bucket(FLOW_DRAFTS.name), draft_key(tenant, flow_id, sha256))


async def _record(bucket: Bucket, key: str) -> FlowRevision | None:
    stored = await bucket.get(key)
    return None if stored is None else decode_revision(stored)
