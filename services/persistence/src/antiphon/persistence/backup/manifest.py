"""The manifest of a backup: what it consists of, with sizes and checksums. It is written last.

Its heads have the form that `verify --log --against` reads.
"""

import hashlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from antiphon.contracts.streams import BUCKETS, BucketDefinition
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.migrations import head, revisions
from antiphon.persistence.migrations.compatibility import mismatch
from antiphon.persistence.verify.heads import Head

FORMAT = 1
NAME = "manifest.json"
READ_BYTES = 1 << 20

PARTS = ("postgres", "buckets", "stream")


class BackupError(Exception):
    """A backup or restore is refused or has failed; the message says why, and what to do."""


class File(msgspec.Struct, frozen=True):
    """A file of the backup."""

    name: str
    bytes: int
    sha256: str
    entries: int = 0  # lines; 0 for the dump


class Dump(msgspec.Struct, frozen=True):
    """The dump of Postgres: of which server, and which code can run with its schema."""

    file: File
    server_version: str
    tool_version: str
    revision: str
    compatible_from: str | None


class Tail(msgspec.Struct, frozen=True):
    """The messages of the stream that the log does not have; `first` and `last` are those of the stream."""

    file: File
    first: int
    last: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup has; a part that was left out is None.

    `read_through` is what each partition had read of the stream at the moment of the backup; `sha256` is the
    checksum of the other fields.
    """

    format: int
    version: str
    began_at: datetime
    ended_at: datetime
    partitions: int
    deployment: str | None
    read_through: list[int]
    heads: list[Head]
    postgres: Dump | None
    buckets: list[File] | None
    stream: Tail | None
    sha256: str = ""

    def parts(self) -> list[str]:
        """Return the names of the parts that the backup has."""
        return [part for part in PARTS if getattr(self, part) is not None]

    def files(self, parts: list[str]) -> list[File]:
        """Return the files of parts."""
        found: list[File] = []
        if self.postgres is not None and "postgres" in parts:
            found.append(self.postgres.file)
        if self.buckets is not None and "buckets" in parts:
            found += self.buckets
        if self.stream is not None and "stream" in parts:
            found.append(self.stream.file)
        return found


class _Format(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """Return the text of a manifest, with its checksum."""
    sealed = msgspec.structs.replace(manifest, sha256=checksum(msgspec.json.encode(manifest)))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def checksum(text: bytes) -> str:
    """Return the checksum of what a manifest says."""
    fields = {name: value for name, value in msgspec.json.decode(text).items() if name != "sha256"}
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()


def bucket_file(definition: BucketDefinition) -> str:
    """Return the name of a bucket's file."""
    return f"buckets/{definition.name}.ndjson"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a whole backup.

    Raises BackupError.
    """
    path = folder / NAME
    try:
        text = path.read_bytes()
        found = msgspec.json.decode(text, type=_Format).format
        if found > FORMAT:
            raise BackupError(
                f"{path} has format {found}, and this version reads up to {FORMAT}: restore it with the "
                "version that wrote it, or a later one."
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except FileNotFoundError as error:
        raise BackupError(f"{folder} is no whole backup: it has no {NAME}.") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} is damaged ({error}): use another backup.") from error
    if manifest.sha256 != checksum(text):
        raise BackupError(f"{path} is damaged: it has another checksum than when it was written.")
    return manifest


def check_runnable(manifest: Manifest) -> None:
    """Check that this code can run with the backup, or migrate it.

    Raises BackupError.
    """
    if manifest.partitions != PARTITIONS:
        raise BackupError(
            f"The backup is of a deployment with {manifest.partitions} partitions, this version has "
            f"{PARTITIONS}: restore it with the version that wrote it, {manifest.version}."
        )
    known = {bucket_file(definition) for definition in BUCKETS}
    if others := [file.name for file in manifest.buckets or () if file.name not in known]:
        raise BackupError(
            f"This version does not know {', '.join(others)} of the backup: restore it with version "
            f"{manifest.version} or later."
        )
    dump = manifest.postgres
    if dump is None or mismatch(dump.revision, dump.compatible_from, revisions(), head()) is None:
        return
    if dump.revision in revisions():
        return  # an older one, which the restore migrates
    raise BackupError(
        f"The backup has schema revision {dump.revision}, for code of revision "
        f"{dump.compatible_from or dump.revision} and later; this version has {head()}: restore it with "
        f"version {manifest.version} or later."
    )


def check_files(folder: Path, files: list[File], progress: Callable[[int], object]) -> None:
    """Compare the files with their sizes and checksums; `progress` gets the number of bytes read.

    Raises BackupError.
    """
    for file in files:
        path = folder / file.name
        if not Path(os.path.normpath(path)).is_relative_to(folder):
            raise BackupError(f"{folder / NAME} names {file.name}, which is not a file of the backup.")
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(READ_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    progress(len(chunk))
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}. Use another backup.") from error
        if size != file.bytes or digest.hexdigest() != file.sha256:
            raise BackupError(
                f"{path} is damaged: it has {size:,} bytes and another checksum than when it was written "
                f"({file.bytes:,} bytes). Use another backup."
            )
