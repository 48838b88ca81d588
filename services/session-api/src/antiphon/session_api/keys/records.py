"""API keys in memory, from the watched bucket `keys`."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from antiphon.contracts.api_keys import (
    USED_PREFIX,
    ApiKey,
    InvalidKey,
    decode_key,
    is_key_digest,
    key_digest,
)

CACHED = 4096  # decoded records

log = structlog.get_logger(__name__)


class KeyRecord(NamedTuple):
    """A key, and the SHA-256 of its secret that it is stored under."""

    digest: str
    key: ApiKey


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Keys:
    """API keys by the SHA-256 of their secret; a change of the bucket applies to the next request."""

    def __init__(self, bucket: Mapping[str, bytes], clock: Callable[[], datetime] = now) -> None:
        self._bucket = bucket
        self._clock = clock
        self._decoded: dict[str, tuple[bytes, ApiKey | None]] = {}

    def find(self, secret: str) -> KeyRecord | None:
        """Return the key with this secret, also one that has ended, or None."""
        digest = key_digest(secret)
        key = self.get(digest)
        return None if key is None else KeyRecord(digest, key)

    def get(self, digest: str) -> ApiKey | None:
        """Return the key under a digest; None if there is none, or its record is not valid."""
        value = self._bucket.get(digest)
        if value is None:
            self._decoded.pop(digest, None)
            return None
        cached = self._decoded.get(digest)
        if cached is not None and cached[0] is value:
            return cached[1]
        key = self._decode(digest, value, known=cached is not None and cached[0] == value)
        if len(self._decoded) >= CACHED:
            self._decoded.clear()
        self._decoded[digest] = (value, key)
        return key

    def usable(self, digest: str) -> bool:
        """Return whether the key under a digest opens anything now."""
        key = self.get(digest)
        return key is not None and key.usable(self._clock())

    def all(self) -> Iterator[KeyRecord]:
        """Yield every key."""
        for name in tuple(self._bucket):
            if is_key_digest(name) and (key := self.get(name)) is not None:
                yield KeyRecord(name, key)

    def with_id(self, key_id: str) -> KeyRecord | None:
        """Return the key with an id, or None."""
        return next((record for record in self.all() if record.key.id == key_id), None)

    def used_at(self, digest: str) -> datetime | None:
        """Return when the key was last used, as far as it was written down."""
        value = self._bucket.get(USED_PREFIX + digest)
        return None if value is None else decode_time(value)

    def holds(self, digest: str, value: bytes) -> bool:
        """Return whether this value of a record has arrived."""
        return self._bucket.get(digest) == value

    def _decode(self, digest: str, value: bytes, *, known: bool) -> ApiKey | None:
        try:
            return decode_key(digest, value)
        except InvalidKey as error:
            if not known:  # once for each value, not for each request with it
                log.warning("keys.malformed", key_sha256=digest, error=str(error))
            return None


def decode_time(value: bytes) -> datetime | None:
    """Return the time that an entry holds; None if it holds none."""
    try:
        found = datetime.fromisoformat(value.decode())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
