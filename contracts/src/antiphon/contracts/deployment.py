"""The identity of a deployment: the value that its services share in the bucket `deployment`."""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

IDENTITY_KEY = "identity"
DEPLOYMENT_ID_PATTERN = "^[a-z0-9]{8}$"
SECRET_BYTES = 32

_id = re.compile(DEPLOYMENT_ID_PATTERN)


class Deployment(msgspec.Struct, frozen=True):
    """A deployment: services on one broker.

    `id` tells its rooms and agents from those of others on the same LiveKit server. `secret` is the key of
    the hash that turns idempotency keys into session ids.
    """

    id: Annotated[str, Meta(pattern=DEPLOYMENT_ID_PATTERN)]
    secret: Annotated[bytes, Meta(min_length=SECRET_BYTES)]
    created_at: datetime

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Deployment({self.id!r})"

    @property
    def agent_name(self) -> str:
        """The default name of the agent that runs flows."""
        return f"antiphon-{self.id}"


_decoder = msgspec.json.Decoder(Deployment)


def is_deployment_id(text: object) -> bool:
    """Return whether this has the form of a deployment's id: eight of a-z and 0-9."""
    return isinstance(text, str) and _id.fullmatch(text) is not None


def encode_deployment(deployment: Deployment) -> bytes:
    """Encode the identity of a deployment."""
    return msgspec.json.encode(deployment)


def decode_deployment(value: bytes) -> Deployment | None:
    """Decode the identity of a deployment; None for a value that is not one."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
