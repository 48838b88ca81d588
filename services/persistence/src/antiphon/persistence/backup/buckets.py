"""Buckets in a backup: a file for each, with a line for each key. Restored, they differ in revisions only."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from antiphon.chassis.bus import Bucket, Bus
from antiphon.contracts.api_keys import InvalidKey, decode_key
from antiphon.contracts.deployment import IDENTITY_KEY, decode_deployment
from antiphon.contracts.streams import BUCKETS, DEPLOYMENT, KEYS, BucketDefinition
from antiphon.persistence.backup.folder import Draft
from antiphon.persistence.backup.manifest import BackupError, File, Manifest, bucket_file

SHOWN = 5  # keys of a bucket that differ
TRIES = 5  # of a key that a service changes meanwhile
CHUNK = 32  # keys that are written at the same time: of the largest, 16 MiB


class Entry(msgspec.Struct, frozen=True):
    """A key and its value."""

    key: str
    value: bytes


class Difference(msgspec.Struct, frozen=True):
    """What a bucket has and the backup has not, or has with another value."""

    bucket: str
    differs: list[str]
    missing: int  # keys of the backup that the bucket does not have

    def __str__(self) -> str:
        names = ", ".join(self.differs[:SHOWN]) + (" …" if len(self.differs) > SHOWN else "")
        return (
            f"bucket {self.bucket}: {len(self.differs)} keys have another value than in the backup: {names}"
        )


_decoder = msgspec.json.Decoder(Entry)


def saved(manifest: Manifest) -> list[BucketDefinition]:
    """Return the buckets that a backup has; an earlier version may have had fewer."""
    names = {file.name for file in manifest.buckets or ()}
    return [definition for definition in BUCKETS if bucket_file(definition) in names]


async def write_buckets(bus: Bus, draft: Draft) -> list[File]:
    """Write all buckets; return their files.

    Raises BackupError, BusUnavailable, HistoryGap, OSError.
    """
    files = []
    for definition in BUCKETS:
        if not await bus.has_bucket(definition.name):
            raise BackupError(
                f"The bucket {definition.name} does not exist: start the services, which create it, or check "
                "ANTIPHON_NATS_URL."
            )
        bucket = await bus.bucket(definition.name)
        with draft.file(bucket_file(definition)) as file:
            async for key, value in bucket.entries():
                file.write_line(Entry(key, value))
        files.append(file.done())
    return files


async def deployment_id(bus: Bus) -> str | None:
    """Return the id of the deployment that the broker holds, or None. Raises BusUnavailable."""
    if not await bus.has_bucket(DEPLOYMENT.name):
        return None
    value = await (await bus.bucket(DEPLOYMENT.name)).get(IDENTITY_KEY)
    found = None if value is None else decode_deployment(value)
    return None if found is None else found.id


def read_entries(folder: Path, definition: BucketDefinition) -> Iterator[Entry]:
    """Yield the entries of a bucket; a key that was written meanwhile comes twice, the newest last.

    Raises BackupError.
    """
    path = folder / bucket_file(definition)
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield _decoder.decode(line)
    except (OSError, msgspec.DecodeError) as error:
        raise BackupError(f"{path} cannot be read: {error}. Use another backup.") from error


async def compare(bus: Bus, folder: Path, definition: BucketDefinition) -> Difference:
    """Compare a bucket with its backup, without changing it.

    Raises BackupError, BusUnavailable.
    """
    exists = await bus.has_bucket(definition.name)
    bucket = await bus.bucket(definition.name)
    differs: dict[str, None] = {}
    missing: set[str] = set()
    for entry in read_entries(folder, definition):
        differs.pop(entry.key, None)  # an earlier line with this key does not count
        found = await bucket.get(entry.key) if exists else None
        if found is None:
            missing.add(entry.key)
        elif found != entry.value:
            differs[entry.key] = None
    return Difference(definition.name, list(differs), len(missing))


async def restore_bucket(bus: Bus, folder: Path, definition: BucketDefinition) -> tuple[int, int]:
    """Write the entries that a bucket does not have, or has with another value.

    Returns how many were written, and how many were kept: API keys that have ended since the backup, or end
    earlier.
    Raises BackupError, BusUnavailable.
    """
    bucket = await bus.bucket(definition.name)
    written = kept = 0
    for chunk in _chunks(folder, definition):
        done = await asyncio.gather(*(_write(bucket, definition, *entry) for entry in chunk.items()))
        written += done.count(True)
        kept += done.count(None)
    return written, kept


def _chunks(folder: Path, definition: BucketDefinition) -> Iterator[dict[str, bytes]]:
    """Yield the entries that are written at the same time: services that run see the bucket grow."""
    chunk: dict[str, bytes] = {}
    for entry in read_entries(folder, definition):
        chunk[entry.key] = entry.value
        if len(chunk) == (1 if definition.write_once else CHUNK):  # a log stays in its order
            yield chunk
            chunk = {}
    yield chunk


async def _write(bucket: Bucket, definition: BucketDefinition, key: str, value: bytes) -> bool | None:
    """Write an entry that differs; return whether it was, or None if what is there must stay."""
    for _ in range(TRIES):
        found = await bucket.entry(key)
        if found is None:
            await bucket.put(key, value)
            return True
        if found.value == value:
            return False
        if definition == KEYS and _ends_earlier(key, found.value, value):
            return None
        if definition.write_once:  # the broker says why
            await bucket.put(key, value)
            return True
        if await bucket.update(key, value, found.revision):  # else it was revoked meanwhile, perhaps
            return True
    raise BackupError(f"A service changes {key} at this moment: stop the services, and run this again.")


def _ends_earlier(key: str, here: bytes, saved: bytes) -> bool:
    """Return whether a key is revoked or expires before that of the backup: it would open again."""
    try:
        ends = decode_key(key, here).ends_at
    except InvalidKey:  # when it was last used, or damaged: the backup's is better
        return False
    try:
        return ends is not None and ((later := decode_key(key, saved).ends_at) is None or ends < later)
    except InvalidKey:
        return True
