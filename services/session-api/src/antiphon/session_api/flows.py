"""Flows of a tenant, from the watched `flows` bucket."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec
import structlog

log = structlog.get_logger(__name__)


class Flow(msgspec.Struct, frozen=True):
    """A revision of a flow, without its source."""

    flow_id: str
    revision: int
    sha256: str
    name: str | None = None
    description: str | None = None
    language: str | None = None
    created_at: datetime | None = None


class _Greeting(msgspec.Struct):
    greeting: str = ""


_decoder = msgspec.json.Decoder(Flow)
_greeting = msgspec.json.Decoder(_Greeting)


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

    def greeting(self, tenant: str, flow_id: str, revision: int) -> str | None:
        """Return what the agent of a flow says first; None for a revision published without it."""
        record = self._bucket.get(f"{tenant}.{flow_id}.{revision}")
        try:
            return None if record is None else _greeting.decode(record).greeting or None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

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
        except msgspec.DecodeError as error:
            log.warning("flows.malformed", key=key, error=str(error))
            return None
