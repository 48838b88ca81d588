"""A command of an operator is on record before it is done, also on a broker that has lost its buckets."""

import pytest
from tests.fixtures.broker import erase

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.contracts.audit import DEPLOYMENT, ActKind, decode_outcome, decode_record
from antiphon.contracts.streams import AUDIT
from antiphon.persistence.streams.recreate import Refused
from antiphon.persistence.streams.run import on_record


async def test_a_command_is_on_record_with_its_outcome(bus: Bus, database: Database) -> None:
    seen: list[int] = []

    async def entries() -> list[tuple[str, bytes]]:
        return [entry async for entry in (await bus.bucket(AUDIT.name)).entries()]

    async def refused(_: Bus, __: Database) -> None:
        seen.append(len(await entries()))
        raise Refused("there is nothing to recreate")

    await erase(bus)
    with pytest.raises(Refused):
        await on_record(ActKind.STREAM_RECREATE, "SESSIONS", refused)(bus, database)

    [(_, stored), (_, outcome)] = await entries()
    act = decode_record(stored).act
    assert seen == [1]
    assert (act.kind, act.tenant, act.target) == (ActKind.STREAM_RECREATE, DEPLOYMENT, "SESSIONS")
    assert act.actor.name.startswith("operator:")
    assert decode_outcome(outcome).result == "refused"
