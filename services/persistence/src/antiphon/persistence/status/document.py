"""The document of the status, as `--json` prints it, and what in it an operator must act on."""

from datetime import datetime

import msgspec

from antiphon.chassis.bus import StreamState
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.group import ranges
from antiphon.persistence.projection.checkpoint import Stalled
from antiphon.persistence.streams.status import Gap

EVERY = frozenset(range(PARTITIONS))


class Lag(msgspec.Struct):
    """How far something is behind: events, and the age of the first of them in seconds, 0 without any."""

    events: int | None  # None when it is not known
    at_least: bool = False  # there are more, which were not counted
    seconds: float | None = None


class Partition(msgspec.Struct):
    """The progress of ingest; `head` is the newest position on the stream, None without NATS."""

    partition: int
    checkpoint: int
    head: int | None
    caught_up: bool | None
    lag: Lag
    epoch: int
    updated_at: datetime | None
    holder: str | None  # the replica that ingests it: its connection
    dead_letters: int  # at most as many as are counted
    stopped: str | None  # why, if an operator must act


class Build(msgspec.Struct):
    """A build of a view that was begun and has not ended."""

    version: int
    started_at: datetime
    started_by: str
    done: float  # 0 to 1, of the positions of the log
    run_by: str | None  # None when nobody goes on with it


class StalledPartition(msgspec.Struct):
    """A partition of a view that waits for an operator, and the event that it cannot fold."""

    partition: int
    event: Stalled


class View(msgspec.Struct):
    """The progress of a view. `version` is that of this code, `live_version` that which readers see."""

    projection: str
    version: int | None  # None for a view that this code does not have
    live_version: int | None
    superseded: bool  # a later version of the code has replaced it
    build: Build | None
    lag: Lag
    updated_at: datetime | None
    holders: dict[str, list[int]]  # partitions by replica
    stalled: list[StalledPartition]
    skipped: int  # events that an operator made it leave out

    @property
    def unheld(self) -> list[int]:
        """The partitions that no replica has."""
        return sorted(EVERY.difference(*self.holders.values()))


class DeadLetters(msgspec.Struct):
    """The number of dead letters, and the newest."""

    count: int
    at_least: bool
    newest_at: datetime | None
    newest_error: str | None
    by_tenant: dict[str, int]  # of the newest ones: the 20 tenants with most


class Status(msgspec.Struct):
    """The status of persistence; `stream` is None without NATS, and when it does not exist."""

    schema_revision: str | None
    schema_needed: str
    nats: bool  # whether it could be asked
    nats_error: str | None  # why it could not
    stream: StreamState | None
    partitions: list[Partition]
    projections: list[View]
    dead_letters: DeadLetters
    gaps: list[Gap]
    problems: list[str] = []

    def to_json(self) -> str:
        """Return the status as JSON."""
        return msgspec.json.encode(self).decode()


def problems_of(status: Status) -> list[str]:
    """Return what an operator must act on, each with what to do."""
    found = []
    if not status.nats:
        found.append(f"NATS cannot be asked how far behind ingest is: {status.nats_error}")
    elif status.stream is None:
        found.append(f"stream {SESSIONS.name} does not exist: see `streams status`")
    if unheld := [part.partition for part in status.partitions if part.holder is None]:
        found.append(f"no replica ingests partitions {ranges(unheld)}: start one with `run`")
    stopped: dict[str, list[int]] = {}
    for part in status.partitions:
        if part.stopped:
            stopped.setdefault(part.stopped, []).append(part.partition)
    found += [f"ingest of partitions {ranges(those)} is stopped: {why}" for why, those in stopped.items()]
    return found + [problem for view in status.projections for problem in _problems_of_view(view)]


def _problems_of_view(view: View) -> list[str]:
    name, build = view.projection, view.build
    if view.version is None:
        return []  # other code keeps it up to date
    found = [
        f"{name} partition {each.partition} is {each.event}: `resume {name}` after the mend, or with --skip"
        for each in view.stalled
    ]
    if view.superseded:
        found.append(
            f"{name} is live in version {view.live_version}, later than version {view.version} of this code: "
            "its lag grows unless replicas of that version run"
        )
    if build is not None and build.run_by is None:
        found.append(
            f"a build of {name} in version {build.version} is unfinished at {build.done:.0%} and nobody runs "
            f"it: `rebuild {name}` goes on with it, `rebuild {name} --discard` drops it"
        )
    elif build is None and view.live_version is None:
        found.append(f"{name} does not exist: `run` builds it")
    if view.live_version is not None and view.unheld and (build is None or build.run_by is None):
        found.append(f"no replica updates partitions {ranges(view.unheld)} of {name}: start one with `run`")
    return found
