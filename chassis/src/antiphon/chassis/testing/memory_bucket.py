"""A bucket in memory."""

from antiphon.chassis.bus.errors import KeyExists
from antiphon.chassis.bus.port import Bucket, Watched


class InMemoryWatched(Watched):
    """Show a bucket's content as it is, until closed."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self._content = content

    async def close(self) -> None:
        """Keep the content of this moment (see Watched.close)."""
        self._content = dict(self._content)


class InMemoryBucket(Bucket):
    """Read and write a dict."""

    def __init__(self) -> None:
        self._content: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """Return the key's value, or None (see Bucket.get)."""
        return self._content.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Set the key's value (see Bucket.put)."""
        self._content[key] = value

    async def create(self, key: str, value: bytes) -> None:
        """Set the value of a key that is not there (see Bucket.create)."""
        if key in self._content:
            raise KeyExists(key)
        self._content[key] = value

    async def delete(self, key: str) -> None:
        """Remove the key (see Bucket.delete)."""
        self._content.pop(key, None)

    async def keys(self) -> list[str]:
        """List the keys, sorted (see Bucket.keys)."""
        return sorted(self._content)

    async def watch(self) -> Watched:
        """Show the content as it is, always (see Bucket.watch)."""
        return InMemoryWatched(self._content)
