"""API keys from the `keys` bucket, known by their SHA-256 and watched into memory."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec
import structlog

log = structlog.get_logger(__name__)


class ApiKey(msgspec.Struct, frozen=True):
    """Hold what the `keys` bucket says of one key."""

    tenant: str
    name: str
    scopes: frozenset[str]
    created_at: datetime | None = None

    @property
    def actor(self) -> str:
        """Name the key's holder on the log."""
        return f"key:{self.name}"


_decoder = msgspec.json.Decoder(ApiKey)


class Keys:
    """Find the holder of an API key; a key put or revoked counts from the next request on."""

    def __init__(self, bucket: Mapping[str, bytes]) -> None:
        self._bucket = bucket

    def find(self, secret: str) -> ApiKey | None:
        """Return the key that this secret opens."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        record = self._bucket.get(digest)
        if record is None:
            return None
        try:
            return _decoder.decode(record)
        except msgspec.DecodeError as error:
            log.warning("keys.malformed", key_sha256=digest, error=str(error))
            return None
