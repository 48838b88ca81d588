"""Export to a folder of Parquet files, one row per event, partitioned by day and type."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from antiphon.cli.errors import StackError
from antiphon.cli.export.manifest import Checkpoint, PartFile, sync_folder
from antiphon.cli.export.tables import UNREADABLE, Unreadable, is_known, table_of, unreadable_table
from antiphon.contracts.envelope import Envelope, decode
from antiphon.contracts.errors import MalformedEvent
from antiphon.contracts.views import utc_day

# Events wait in memory until there are as many; then each partition of them becomes a file.
FLUSH_BYTES = 16 << 20
FLUSH_EVENTS = 32_768
TEMPORARY = ".tmp"  # the end of the name of a file that is not complete


class ParquetFolder:
    """The folder while it is written: files appear in it whole, `day=…/type=…/part-….parquet`.

    What a crash left behind the last checkpoint is removed.
    """

    def __init__(
        self,
        folder: Path,
        export_id: str,
        last: Checkpoint | None,
        *,
        without_pii: bool,
        flush_bytes: int = FLUSH_BYTES,
        flush_events: int = FLUSH_EVENTS,
    ) -> None:
        self._folder = folder
        self._prefix = f"part-{export_id}-"
        self.parts = last.parts if last else 0
        self._without_pii = without_pii
        self._flush_bytes = flush_bytes
        self._flush_events = flush_events
        self._waiting: defaultdict[tuple[str, str], list[Envelope]] = defaultdict(list)
        self._bytes = 0
        self._events = 0
        self._remove_leftovers()

    @property
    def full(self) -> bool:
        """Whether as many events wait as may."""
        return self._bytes >= self._flush_bytes or self._events >= self._flush_events

    def add(self, lines: Sequence[bytes]) -> None:
        """Take events; they are written by `flush`.

        Raises StackError for a line that is no event.
        """
        for line in lines:
            try:
                envelope = decode(line)
            except MalformedEvent as error:
                raise StackError(f"session-api sent a line that is no event: {error}") from error
            kind = envelope.type if is_known(envelope.type) else UNREADABLE
            self._waiting[utc_day(envelope.time).isoformat(), kind].append(envelope)
            self._bytes += len(line)
        self._events += len(lines)

    def flush(self) -> tuple[list[PartFile], int]:
        """Write all events that wait; return the new files, which are durable."""
        files: list[PartFile] = []
        unreadable: defaultdict[str, list[Unreadable]] = defaultdict(list)
        for day, kind in sorted(self._waiting):
            envelopes = self._waiting.pop((day, kind))
            if kind == UNREADABLE:
                unreadable[day] += [
                    Unreadable(each, f"unknown event type {each.type!r}") for each in envelopes
                ]
                continue
            table, failed = table_of(kind, envelopes, without_pii=self._without_pii)
            unreadable[day] += failed
            if table.num_rows:
                files.append(self._write(day, kind, table))
        files += [
            self._write(day, UNREADABLE, unreadable_table(each)) for day, each in unreadable.items() if each
        ]
        self._bytes = self._events = 0
        return files, 0

    def close(self, *, complete: bool) -> None:
        """Forget events that wait and were not written."""
        self._waiting.clear()

    def _write(self, day: str, kind: str, table: pa.Table) -> PartFile:
        folder = self._folder / f"day={day}" / f"type={kind}"
        if not folder.exists():
            folder.mkdir(parents=True)
            sync_folder(folder.parent.parent)
            sync_folder(folder.parent)
        path = folder / f"{self._prefix}{self.parts:06}.parquet"
        temporary = path.with_name(path.name + TEMPORARY)
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.rename(path)
        sync_folder(folder)
        self.parts += 1
        return PartFile(str(path.relative_to(self._folder)), table.num_rows, size)

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob(f"day=*/type=*/{self._prefix}*"):
            number = path.name.removeprefix(self._prefix).partition(".")[0]
            if path.name.endswith(TEMPORARY) or (number.isdigit() and int(number) >= self.parts):
                path.unlink()
