"""The identity of a deployment is made once, by the first service that asks."""

import asyncio

import pytest

from antiphon.chassis.bus import Bus
from antiphon.chassis.deployment import InvalidDeployment, deployment_of
from antiphon.contracts.deployment import IDENTITY_KEY, is_deployment_id


async def test_services_that_start_together_share_one_identity(bus: Bus) -> None:
    found = await asyncio.gather(*(deployment_of(bus) for _ in range(8)))

    assert len({(deployment.id, deployment.secret) for deployment in found}) == 1
    assert await deployment_of(bus) == found[0]
    assert is_deployment_id(found[0].id)
    assert found[0].secret.hex() not in repr(found[0])


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 900])
async def test_a_damaged_identity_is_refused(bus: Bus, value: bytes) -> None:
    await (await bus.bucket("deployment")).put(IDENTITY_KEY, value)

    with pytest.raises(InvalidDeployment, match="restore it from a backup"):
        await deployment_of(bus)
