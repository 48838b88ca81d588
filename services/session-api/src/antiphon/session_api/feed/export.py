"""Everything of a tenant up to the head as JSON lines, which a client can go on with after any break.

A line is an event, or a control line, whose first member is `cursor`: all events before that cursor stand
before it, so a client can pass it as `after`, with its `until`, and gets the rest. Only the control line with
`complete` ends an export; a response without it was cut off.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
import structlog
from msgspec import Struct
from starlette.types import Receive, Scope, Send

from antiphon.chassis.background import end_task
from antiphon.chassis.database import DatabaseUnavailable
from antiphon.chassis.log import Batch
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import encode
from antiphon.contracts.pii import without_pii
from antiphon.contracts.subjects import PARTITIONS
from antiphon.session_api.feed.filters import EventFilter
from antiphon.session_api.feed.hub import Hubs
from antiphon.session_api.problems import Problem
from antiphon.session_api.sessions.sse import Chunks, EventStream, StreamEnd

MEDIA_TYPE = "application/x-ndjson"
STEP = 2_000  # events between two control lines, at most
STEP_BYTES = 8 << 20  # about; the log's own limit is half of it
EXPORTS_OF_TENANT = 4  # at the same time, in a replica
RETRY_SECONDS = 10
ALL_PARTITIONS = range(PARTITIONS)
GZIP_LEVEL = 1
_GZIP_WINDOW = 31  # zlib's number for the gzip format

log = structlog.get_logger(__name__)


class Control(Struct, frozen=True):
    """A control line; `progress` is the part of the log up to `until` that lies before `cursor`, 0 to 1.

    `tenant` tells a client that goes on with another key whether the events are of the same tenant.
    """

    cursor: str
    until: str
    progress: float
    complete: bool
    tenant: str


class Exporting(Struct, frozen=True):
    """What one request exports: the events of a tenant between two cursors."""

    tenant: str
    wanted: EventFilter
    start: Cursor
    until: Cursor
    without_pii: bool


class ExportSlots:
    """How many exports of each tenant run."""

    def __init__(self, of_tenant: int = EXPORTS_OF_TENANT) -> None:
        self._of_tenant = of_tenant
        self._running: Counter[str] = Counter()

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Count an export while it runs.

        Raises Problem 429 when there are too many.
        """
        if self._running[tenant] >= self._of_tenant:
            raise Problem(
                429,
                "quota-exceeded",
                f"The tenant has {self._of_tenant} exports running; wait until one has ended.",
                retry_after_seconds=RETRY_SECONDS,
                quota="exports",
                limit=self._of_tenant,
            )
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]


class ExportResponse(EventStream):
    """An export as it is read from the log: the client's reading sets the pace."""

    media_type = MEDIA_TYPE

    def __init__(self, chunks: Chunks, slots: ExportSlots, tenant: str, *, gzip: bool) -> None:
        super().__init__(_gzipped(chunks) if gzip else chunks)
        self.headers["Vary"] = "Accept-Encoding"
        if gzip:
            self.headers["Content-Encoding"] = "gzip"
        self._slots = slots
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the export, counted.

        Raises Problem 429 when too many run.
        """
        with self._slots.taken(self._tenant):
            await super().__call__(scope, receive, send)


async def export_lines(hubs: Hubs, export: Exporting, stream: StreamEnd) -> Chunks:
    """Yield the lines of an export, a control line after each step; the next step is read meanwhile.

    Ends without the complete line when `stream` says so, and when the database is unavailable.
    """

    def control(cursor: Cursor, *, complete: bool = False) -> bytes:
        return _control_line(hubs.log_id, cursor, export, complete=complete)

    if export.start.reaches(export.until, ALL_PARTITIONS):
        yield control(export.start, complete=True)
        return
    yield control(export.start)
    read = _reader(hubs, export)
    ahead = asyncio.ensure_future(read(export.start))
    try:
        complete = False
        while not complete and not stream.stopping:
            batch = await ahead
            complete = batch.cursor.reaches(export.until, ALL_PARTITIONS)
            if not complete:
                ahead = asyncio.ensure_future(read(batch.cursor))
            yield _event_lines(batch, export) + control(batch.cursor, complete=complete)
    except DatabaseUnavailable as error:
        log.warning("export.database_unavailable", tenant=export.tenant, error=str(error))
    finally:
        await end_task(ahead)


def _reader(hubs: Hubs, export: Exporting) -> Callable[[Cursor], Awaitable[Batch]]:
    async def read(cursor: Cursor) -> Batch:
        async with hubs.steps.of(
            export.tenant
        ):  # streams and exports leave connections of the pool for requests
            return await hubs.reader.step(
                export.tenant, export.wanted, cursor, export.until, limit=STEP, max_bytes=STEP_BYTES
            )

    return read


def _event_lines(batch: Batch, export: Exporting) -> bytes:
    envelopes = map(without_pii, batch.envelopes) if export.without_pii else batch.envelopes
    # In JSON, line breaks occur only between tokens, never inside a string.
    lines = [encode(each).replace(b"\r", b" ").replace(b"\n", b" ") for each in envelopes]
    return b"\n".join([*lines, b""])


def _control_line(log_id: str, cursor: Cursor, export: Exporting, *, complete: bool) -> bytes:
    until = export.until
    whole = sum(until.after(partition) for partition in ALL_PARTITIONS)
    before = sum(min(cursor.after(partition), until.after(partition)) for partition in ALL_PARTITIONS)
    progress = round(before / whole, 4) if whole and not complete else 1.0
    line = Control(cursor.encode(log_id), until.encode(log_id), progress, complete, export.tenant)
    return msgspec.json.encode(line) + b"\n"


async def _gzipped(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    """Compress chunks, each of which the client can read at once."""
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def compressed(chunk: bytes) -> bytes:
        return stream.compress(chunk) + stream.flush(zlib.Z_SYNC_FLUSH)

    try:
        async for chunk in chunks:
            yield await asyncio.to_thread(compressed, chunk)
        yield stream.flush()
    finally:
        await chunks.aclose()
