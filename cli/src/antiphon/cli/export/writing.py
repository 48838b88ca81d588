"""One export as it is written: batches go to its files, and after each checkpoint it can resume there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from antiphon.cli.errors import StackError
from antiphon.cli.export.manifest import Checkpoint, Manifest, PartFile, Request
from antiphon.cli.export.ndjson import PARTIAL, NdjsonFile
from antiphon.client import ExportedBatch

FOLDER_MANIFEST = "_manifest.ndjson"  # readers of Parquet folders ignore names that begin with _
FILE_MANIFEST = ".manifest"  # the end of the manifest's name, beside a file


class Files(Protocol):
    """The files of an export."""

    @property
    def full(self) -> bool:
        """Whether a checkpoint is due."""

    @property
    def parts(self) -> int:
        """How many files there are."""

    def add(self, lines: Sequence[bytes]) -> None:
        """Take events."""

    def flush(self) -> tuple[list[PartFile], int]:
        """Make all of them durable; return the new files, and the size of the one that grows."""

    def close(self, *, complete: bool) -> None:
        """Write no more."""


class Start(NamedTuple):
    """Where the run begins and ends: a cursor, and a cursor or a time; None is the start, and the head."""

    after: str | None
    until: str | None


class Export:
    """An export while it is written; its data is on disk up to the last checkpoint."""

    def __init__(self, files: Files, manifest: Manifest) -> None:
        self._files = files
        self._manifest = manifest
        last = manifest.last
        self.events = last.events if last else 0
        self._tenant = last.tenant if last else None
        self._complete = False

    @property
    def begun(self) -> bool:
        """Whether it can be resumed."""
        return self._manifest.begun

    @property
    def start(self) -> Start:
        """Where this run begins: where the one before stopped, or after what it has exported completely."""
        last, request = self._manifest.last, self._manifest.header.request
        if last is None:
            return Start(None, request.until)
        return Start(last.cursor, request.until if last.complete else last.until)

    def take(self, batch: ExportedBatch) -> None:
        """Write a batch.

        Raises StackError if it is of another tenant than those before, with or without events; OSError.
        """
        self._require_tenant(batch.tenant)
        self._manifest.begin()
        self._files.add(batch.lines)
        self.events += len(batch.lines)
        if batch.complete or self._files.full:
            self._checkpoint(batch)

    def _require_tenant(self, tenant: str) -> None:
        if self._tenant not in (None, tenant):
            raise StackError(
                f"this export has the events of tenant {self._tenant}, and the API key is of {tenant}: "
                "use a key of the same tenant, or export to another place"
            )
        self._tenant = tenant

    def _checkpoint(self, batch: ExportedBatch) -> None:
        files, size = self._files.flush()
        self._manifest.append(
            Checkpoint(
                cursor=batch.cursor,
                until=batch.until,
                complete=batch.complete,
                events=self.events,
                tenant=self._tenant,
                files=files,
                parts=self._files.parts,
                bytes=size,
            )
        )
        self._complete = batch.complete

    def close(self) -> None:
        """Write no more; what came after the last checkpoint comes again when the export is resumed."""
        try:
            self._files.close(complete=self._complete)
        finally:
            self._manifest.close()


def open_export(output: Path, request: Request, *, resume: bool, new_id: Callable[[], str]) -> Export:
    """Begin an export, or go on with the one that is there.

    Raises StackError when there is one and it is not to be resumed, or it has other options.
    """
    path = manifest_path(output, request)
    if not path.exists():
        _require_new(output, request)
    manifest = Manifest.open(path, request, new_id, resume=resume)
    try:
        return Export(_files(output, manifest), manifest)
    except BaseException:
        manifest.close()
        raise


def manifest_path(output: Path, request: Request) -> Path:
    """Return the path of the manifest of an export."""
    if request.format == "parquet":
        return output / FOLDER_MANIFEST
    return output.with_name(output.name + FILE_MANIFEST)


def _require_new(output: Path, request: Request) -> None:
    if request.format == "parquet":
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise StackError(f"{output} is not an empty folder, and not an export: choose another --output")
        output.mkdir(parents=True, exist_ok=True)
        return
    if output.is_dir():
        raise StackError(f"{output} is a folder: --format ndjson writes one file")
    for path in (output, output.with_name(output.name + PARTIAL)):
        if path.exists():
            raise StackError(f"{path} exists, and is not an export: choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)


def _files(output: Path, manifest: Manifest) -> Files:
    request = manifest.header.request
    if request.format == "ndjson":
        return NdjsonFile(output, manifest.last)
    from antiphon.cli.export.parquet import ParquetFolder  # needs an extra

    return ParquetFolder(output, manifest.header.id, manifest.last, without_pii=request.without_pii)
