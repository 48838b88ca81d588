"""Key-value buckets: configuration, read and written key by key."""

from antiphon.chassis.bus import publish as publishing
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import KeyExists
from antiphon.chassis.bus.messages import Incoming, Outgoing
from antiphon.chassis.bus.port import PUBLISH_DEADLINE_SECONDS, Bucket, Watched
from antiphon.chassis.bus.read import last, read
from antiphon.chassis.bus.watch import watch_bucket

OPERATION = "KV-Operation"
REMOVED = ("DEL", "PURGE")


class NatsBucket(Bucket):
    """Read and write one JetStream key-value bucket."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> bytes | None:
        """Return the key's value, or None (see Bucket.get)."""
        entry = await last(self._connection, self._stream, self._prefix + key)
        return None if entry is None or is_removal(entry) else entry.payload

    async def put(self, key: str, value: bytes) -> None:
        """Set the key's value (see Bucket.put)."""
        await self._write(key, value, {})

    async def create(self, key: str, value: bytes) -> None:
        """Set the value of a key that is not there (see Bucket.create)."""
        entry = await last(self._connection, self._stream, self._prefix + key)
        if entry is not None and not is_removal(entry):
            raise KeyExists(key)
        expected = str(entry.position if entry is not None else 0)
        try:
            await self._write(key, value, {publishing.EXPECTED_LAST: expected})
        except publishing.Refused as refusal:
            if refusal.err_code not in publishing.WRONG_LAST_SEQUENCE:
                raise
            raise KeyExists(key) from refusal

    async def delete(self, key: str) -> None:
        """Remove the key (see Bucket.delete)."""
        await self._write(key, b"", {OPERATION: "DEL"})

    async def keys(self) -> list[str]:
        """List the keys, sorted (see Bucket.keys)."""
        found: set[str] = set()
        async for entry in read(self._connection, self._stream, f"{self._prefix}>", 0):
            key = entry.subject.removeprefix(self._prefix)
            (found.discard if is_removal(entry) else found.add)(key)
        return sorted(found)

    async def watch(self) -> Watched:
        """Read the whole bucket into memory and keep it current (see Bucket.watch)."""
        return await watch_bucket(self._connection, self._stream, self._prefix)

    async def _write(self, key: str, value: bytes, headers: dict[str, str]) -> None:
        out = Outgoing(self._prefix + key, value, message_id="", headers=headers)
        await publishing.publish(self._connection, out, None, PUBLISH_DEADLINE_SECONDS)


def is_removal(entry: Incoming) -> bool:
    """Say whether the entry marks that its key was removed."""
    return entry.headers is not None and entry.headers.get(OPERATION) in REMOVED
