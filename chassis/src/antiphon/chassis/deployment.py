"""The identity of the deployment, made by the first service that asks for it."""

import secrets
from datetime import UTC, datetime

from antiphon.chassis.bus import Bus, KeyExists
from antiphon.contracts.deployment import (
    IDENTITY_KEY,
    SECRET_BYTES,
    Deployment,
    decode_deployment,
    encode_deployment,
)
from antiphon.contracts.streams import DEPLOYMENT

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class InvalidDeployment(Exception):
    """The bucket holds no valid identity."""


async def deployment_of(bus: Bus) -> Deployment:
    """Return the identity of the deployment; make it if there is none.

    Raises InvalidDeployment, BusUnavailable.
    """
    bucket = await bus.bucket(DEPLOYMENT.name)
    value = await bucket.get(IDENTITY_KEY)
    if value is None:
        made = Deployment(
            id="".join(secrets.choice(_ID_ALPHABET) for _ in range(8)),
            secret=secrets.token_bytes(SECRET_BYTES),
            created_at=datetime.now(UTC),
        )
        try:
            await bucket.create(IDENTITY_KEY, encode_deployment(made))
        except KeyExists:  # another service was first
            value = await bucket.get(IDENTITY_KEY)
        else:
            return made
    found = None if value is None else decode_deployment(value)
    if found is None:
        raise InvalidDeployment(
            f"the key {IDENTITY_KEY} of the bucket {DEPLOYMENT.name} is not a valid identity: restore it "
            "from a backup, or delete it to get a new one (idempotency keys used so far are forgotten)"
        )
    return found
