"""Whether a view is kept up to date: what is not folded yet, where it is stalled, and who updates it."""

from typing import TYPE_CHECKING

import msgspec

from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.leases.group import ranges
from antiphon.persistence.leases.locks import holders, lease_name, projection_group
from antiphon.persistence.projection import Projection
from antiphon.persistence.status.document import Lag
from antiphon.persistence.status.lag import read_lags

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_STALLED = """
select partition from projection_checkpoints where projection = $1 and stalled is not null order by 1
"""


class Upkeep(msgspec.Struct, frozen=True):
    """How far a view is behind, and in which partitions it is stalled or nobody updates it."""

    version: int  # of this code
    lag: Lag
    stalled: list[int]
    unheld: list[int]  # no running process has them in this version

    def problems(self, *, compared: bool) -> list[str]:
        """Return what to know or act on, a line each; `compared` if the view was compared with the log."""
        lines = []
        if self.lag.events:
            number = f"{'more than ' if self.lag.at_least else ''}{self.lag.events:,}"
            events = f"{number} event{'' if self.lag.events == 1 else 's'} not folded yet"
            lines.append(f"{events}{' (not compared)' if compared else ''}")
        if self.stalled:
            where = f"partition{'' if len(self.stalled) == 1 else 's'} {ranges(self.stalled)}"
            lines.append(f"stalled in {where}: `status` says at which event")
        if self.unheld:
            where = f" in partitions {ranges(self.unheld)}" if len(self.unheld) < PARTITIONS else ""
            lines.append(
                f"no running process keeps version {self.version} up to date{where}: "
                "start or restart `run` with this code"
            )
        return lines


async def read_upkeep(connection: "Connection", projection: Projection) -> Upkeep:
    """Return the upkeep of a view in the version of this code. It needs a transaction.

    Raises any of POSTGRES_ERRORS.
    """
    group = projection_group(projection.name, projection.version)
    leases = [lease_name(group, number) for number in range(PARTITIONS)]
    held = await holders(connection, leases)
    stalled = [row[0] for row in await connection.fetch(_STALLED, projection.name)]
    lags = await read_lags(connection, [projection.name])
    unheld = [number for number, lease in enumerate(leases) if lease not in held]
    return Upkeep(projection.version, lags[projection.name][0], stalled, unheld)


async def unkept(connection: "Connection", projection: Projection) -> list[str]:
    """Return what to know or act on of a view that was just built."""
    return (await read_upkeep(connection, projection)).problems(compared=False)
