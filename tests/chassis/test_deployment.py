"""The identity of a deployment is made once, by the first service that asks."""

import asyncio
from datetime import UTC, datetime

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable
from antiphon.chassis.deployment import (
    READ_SECONDS,
    DeploymentChanged,
    DeploymentCheck,
    InvalidDeployment,
    deployment_of,
)
from antiphon.contracts.deployment import IDENTITY_KEY, Deployment, encode_deployment, is_deployment_id


async def test_services_that_start_together_share_one_identity(bus: Bus) -> None:
    found = await asyncio.gather(*(deployment_of(bus) for _ in range(8)))

    assert len({(deployment.id, deployment.secret) for deployment in found}) == 1
    assert await deployment_of(bus) == found[0]
    assert is_deployment_id(found[0].id)
    assert found[0].secret.hex() not in repr(found[0])


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 900])
async def test_a_damaged_identity_is_refused(bus: Bus, value: bytes) -> None:
    await (await bus.bucket("deployment")).put(IDENTITY_KEY, value)

    with pytest.raises(InvalidDeployment, match=r"restore it from a backup.*restart every service"):
        await deployment_of(bus)


async def test_a_process_that_holds_another_identity_is_unready(bus: Bus) -> None:
    held = await deployment_of(bus)
    now = 0.0
    check = DeploymentCheck(bus, held, clock=lambda: now).check
    assert await check() == ""

    bucket = await bus.bucket("deployment")
    await bucket.delete(IDENTITY_KEY)
    assert await check() == ""  # not read again so soon
    now += READ_SECONDS
    assert "restore the key identity" in await check()  # and ready: every service holds the same
    made = await deployment_of(bus)  # by a service that was restarted
    now += READ_SECONDS
    with pytest.raises(
        DeploymentChanged, match=f"changed from {held.id} to {made.id}: restart every service"
    ):
        await check()
    await bucket.put(IDENTITY_KEY, encode_deployment(held))  # restored
    now += READ_SECONDS
    assert await check() == ""


async def test_without_the_broker_the_identity_that_was_read_last_counts() -> None:
    held = Deployment(id="testonly", secret=b"s" * 32, created_at=datetime.now(UTC))

    async def no_bus() -> Bus:
        raise BusUnavailable("down")

    assert await DeploymentCheck(no_bus, held).check() == ""
