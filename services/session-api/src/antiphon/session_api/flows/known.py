"""Flows of a tenant, from the watched `flows` bucket."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec
import structlog

log = structlog.get_logger(__name__)


class Flow(msgspec.Struct, frozen=True):
    """A revision of a flow, without its source.

    `requires` are the variables that a session needs in its metadata, as `metadata.order`; `greeting` is what
    the agent says first, if that is the same in every session.
    """

    flow_id: str
    revision: int
    sha256: str
    name: str | None = None
    description: str | None = None
    language: str | None = None
    created_at: datetime | None = None
    greeting: str = ""
    requires: list[str] = []


LONGEST_SHOWN = 2_000  # characters of a text that is kept in memory
MOST_REQUIRED = 100  # names that are kept in memory; the agent checks all

_decoder = msgspec.json.Decoder(Flow)


def without_source(record: bytes) -> bytes:
    """Return what is kept in memory of a stored revision: a few KiB; what cannot be read stays unreadable."""
    try:
        flow = _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    texts = {
        name: text[:LONGEST_SHOWN]
        for name in ("name", "description", "language", "greeting")
        if (text := getattr(flow, name)) is not None
    }
    return msgspec.json.encode(msgspec.structs.replace(flow, **texts, requires=flow.requires[:MOST_REQUIRED]))


class Flows:
    """Flows by tenant and id; revisions are immutable and numbered from 1."""

    def __init__(self, bucket: Mapping[str, bytes]) -> None:
        self._bucket = bucket
        self._newest: dict[str, int] = {}

    def latest_revision(self, tenant: str, flow_id: str) -> int | None:
        """Return the newest revision of a flow, or None for an unknown flow."""
        prefix = f"{tenant}.{flow_id}."
        revision = self._newest.get(prefix, 0)
        if revision and f"{prefix}{revision}" not in self._bucket:
            revision = 0  # the bucket was emptied
        while f"{prefix}{revision + 1}" in self._bucket:
            revision += 1
        # Flows that exist only: an entry for each name that clients ask for would have no bound.
        if revision:
            self._newest[prefix] = revision
        else:
            self._newest.pop(prefix, None)
        return revision or None

    def has_revision(self, tenant: str, flow_id: str, revision: int) -> bool:
        """Return whether a flow has this revision."""
        return f"{tenant}.{flow_id}.{revision}" in self._bucket

    def revision(self, tenant: str, flow_id: str, revision: int) -> Flow | None:
        """Return a revision of a flow, or None if there is none that can be read."""
        return self._read(f"{tenant}.{flow_id}.{revision}")

    def newest(self, tenant: str, flow_id: str) -> Flow | None:
        """Return the newest revision of a flow, or None."""
        revision = self.latest_revision(tenant, flow_id)
        return None if revision is None else self.revision(tenant, flow_id, revision)

    def revisions(self, tenant: str, flow_id: str, before: int | None, limit: int) -> list[Flow]:
        """Return the revisions of a flow before one, newest first, at most `limit`."""
        newest = self.latest_revision(tenant, flow_id) or 0
        last = newest if before is None else min(newest, before - 1)
        found = (self.revision(tenant, flow_id, number) for number in range(last, max(0, last - limit), -1))
        return [flow for flow in found if flow is not None]

    def count(self, tenant: str) -> int:
        """Return how many revisions of all flows a tenant has."""
        return sum(1 for _ in self._revisions(tenant))

    def has(self, key: str) -> bool:
        """Return whether a key is known here yet."""
        return key in self._bucket

    def latest(self, tenant: str) -> list[Flow]:
        """Return the newest revision of every flow of a tenant, by flow id."""
        flow_ids = sorted({flow_id for flow_id, _ in self._revisions(tenant)})
        newest = ((flow_id, self.latest_revision(tenant, flow_id)) for flow_id in flow_ids)
        flows = (self._read(f"{tenant}.{flow_id}.{revision}") for flow_id, revision in newest)
        return [flow for flow in flows if flow is not None]

    def _revisions(self, tenant: str) -> Iterator[tuple[str, str]]:
        for key in tuple(self._bucket):
            owner, _, rest = key.partition(".")
            flow_id, _, revision = rest.rpartition(".")
            if owner == tenant and flow_id and revision.isdigit():
                yield flow_id, revision

    def _read(self, key: str) -> Flow | None:
        record = self._bucket.get(key)
        if record is None:
            return None
        try:
            return _decoder.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("flows.malformed", key=key, error=str(error))
            return None
