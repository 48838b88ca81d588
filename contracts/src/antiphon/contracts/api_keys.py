"""API keys: the records of the bucket `keys`, each under the SHA-256 of its secret."""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from antiphon.contracts.errors import ContractError
from antiphon.contracts.ids import is_tenant, named_session_id, new_session_id

SECRET_PREFIX = "ak_"  # noqa: S105 - public: of the keys that the API makes; others are accepted
SHOWN_CHARACTERS = 8  # of a secret, to tell keys apart; the rest has more than 192 random bits
SECRET_BYTES = 30
KEY_ID_PATTERN = "^key_[0-9a-hjkmnp-tv-z]{26}$"
KEY_NAME_PATTERN = r"^[^\x00-\x1f\x7f]{1,100}$"
USED_PREFIX = "used."  # of the entries of the bucket that hold when a key was last used

_digest = re.compile("^[0-9a-f]{64}$")


class Scope(StrEnum):
    """What an API key allows; none includes another."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    SESSIONS_ERASE = "sessions:erase"
    SUPERVISE = "supervise"
    FLOWS_READ = "flows:read"
    FLOWS_WRITE = "flows:write"
    ADMIN = "admin"


class InvalidKey(ContractError):
    """The record is not an API key."""


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of one key in place of the service's own."""

    requests_per_second: Annotated[int, Meta(ge=1)] | None = None
    streams: Annotated[int, Meta(ge=1)] | None = None


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """One API key.

    `prefix` is the start of the secret, which is nowhere else. With `operator` and the scope `admin` it
    manages the keys of every tenant.
    """

    tenant: str
    name: str
    scopes: frozenset[str]
    created_at: datetime | None = None
    id: str = ""
    prefix: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    rotated_from: str | None = None
    replaced_by: str | None = None
    operator: bool = False
    limits: KeyLimits | None = None

    @property
    def actor(self) -> str:
        """The holder of the key, as events name it."""
        return f"key:{self.name}"

    def expired(self, now: datetime) -> bool:
        """Return whether the key is no longer valid because of its age."""
        return self.expires_at is not None and self.expires_at <= now

    @property
    def ends_at(self) -> datetime | None:
        """When the key was revoked or expires, whichever is earlier; None if it has no end."""
        return min((at for at in (self.revoked_at, self.expires_at) if at is not None), default=None)

    def usable(self, now: datetime) -> bool:
        """Return whether the key opens anything."""
        return self.revoked_at is None and not self.expired(now)


_decoder = msgspec.json.Decoder(ApiKey)
_encoder = msgspec.json.Encoder(order="deterministic")


def key_digest(secret: str) -> str:
    """Return the name of a key's record: the SHA-256 of its secret.

    A secret is random and long, so it cannot be guessed from its hash: no slow hash is needed.
    """
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def is_key_digest(name: str) -> bool:
    """Return whether this entry of the bucket is named like a key's record."""
    return _digest.fullmatch(name) is not None


def new_key_id(now: datetime, entropy: bytes) -> str:
    """Return the id of a new key, made like that of a session."""
    return "key_" + new_session_id(now, entropy).removeprefix("ses_")


def shown_prefix(secret: str) -> str:
    """Return the part of a secret that may be shown."""
    return secret[:SHOWN_CHARACTERS]


def encode_key(key: ApiKey) -> bytes:
    """Encode a key as the bucket holds it."""
    return _encoder.encode(key)


def decode_key(digest: str, value: bytes) -> ApiKey:
    """Decode the record under a digest; one without an id gets one made from the digest.

    Raises InvalidKey.
    """
    try:
        key = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidKey(str(error)) from error
    if not is_tenant(key.tenant):
        raise InvalidKey(f"{key.tenant!r} is not the name of a tenant")
    for moment in (key.created_at, key.expires_at, key.revoked_at):
        if moment is not None and moment.tzinfo is None:
            raise InvalidKey("a time without its zone")
    if not key.id:
        derived = named_session_id(key.tenant, f"key:{digest}").removeprefix("ses_")
        key = msgspec.structs.replace(key, id=f"key_{derived}")
    return key
