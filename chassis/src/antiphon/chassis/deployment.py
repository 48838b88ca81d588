"""The identity of the deployment, made by the first service that asks for it."""

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from antiphon.chassis.bus import Bus, BusError, KeyExists
from antiphon.contracts.deployment import (
    IDENTITY_KEY,
    SECRET_BYTES,
    Deployment,
    decode_deployment,
    encode_deployment,
)
from antiphon.contracts.streams import DEPLOYMENT

READ_SECONDS = 5.0  # between two reads of the identity, however often its check is asked
READ_DEADLINE_SECONDS = 2.0

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class InvalidDeployment(Exception):
    """The bucket holds no valid identity."""


class DeploymentChanged(Exception):
    """The deployment has got another identity since this process read it."""


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
            "from a backup, or delete it to get a new one (idempotency keys used so far are forgotten). Then "
            "restart every service: those that run keep the identity that they have read"
        )
    return found


async def stored_deployment(bus: Bus) -> Deployment | None:
    """Return the identity of the deployment, or None if there is no valid one. Raises BusUnavailable."""
    value = await (await bus.bucket(DEPLOYMENT.name)).get(IDENTITY_KEY)
    return None if value is None else decode_deployment(value)


class DeploymentCheck:
    """Whether the identity that this process works with is still that of the deployment; for `Health.add`."""

    def __init__(
        self,
        bus: Bus | Callable[[], Awaitable[Bus]],
        held: Deployment,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._held = held
        self._clock = clock
        self._reading = asyncio.Lock()
        self._read_at = -math.inf
        self._found: Deployment | None = held

    async def check(self) -> str:
        """Return "", or a warning if the identity is missing, which changes nothing before a restart.

        Without an answer of the broker, the last one counts: other checks report the broker.
        Raises DeploymentChanged.
        """
        async with self._reading:
            if self._clock() - self._read_at >= READ_SECONDS:
                await self._read()
        if self._found is None:
            return (
                f"the identity {self._held.id} of the deployment is lost: restore the key {IDENTITY_KEY} of "
                f"the bucket {DEPLOYMENT.name} from a backup, or restart every service to get a new one"
            )
        if self._found != self._held:
            raise DeploymentChanged(
                f"the identity of the deployment changed from {self._held.id} to {self._found.id}: "
                "restart every service"
            )
        return ""

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_DEADLINE_SECONDS):
                bus = self._bus if isinstance(self._bus, Bus) else await self._bus()
                self._found = await stored_deployment(bus)
        except (BusError, TimeoutError):
            return
        finally:
            self._read_at = self._clock()
