"""Views that stand still without an error: a loop that gets no answer, a version that nobody runs."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.persistence.leases.locks import holders, lease_name, projection_group
from antiphon.persistence.projection.declaration import Projection
from antiphon.persistence.readiness import ReadinessCheck

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

STANDSTILL_SECONDS = 10.0  # then readiness says so; replicas take over from one another in less

_VERSION = "select version from projections where name = $1"
_BEHIND = """
select checkpoint.partition, checkpoint.position
  from projection_checkpoints as checkpoint
 where checkpoint.projection = $1
   and exists (select from event_log
                where event_log.partition = checkpoint.partition
                  and event_log.position > checkpoint.position)
"""


class Watch:
    """Makes a loop unready that does not come round for STANDSTILL_SECONDS, whatever it waits for."""

    def __init__(self, name: str, readiness: ReadinessCheck) -> None:
        self._name = name
        self._readiness = readiness
        self._moved_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def moved(self) -> None:
        """Note that the loop has come round; called for each batch."""
        self._moved_at = time.monotonic()
        if self._timer is None:
            self._arm(STANDSTILL_SECONDS)

    def rest(self) -> None:
        """Watch no longer, until the loop moves again: it has nothing to do, or has reported an error."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._moved_at + STANDSTILL_SECONDS - time.monotonic()
        if left > 0:
            self._arm(left)
        else:
            self._readiness.unhealthy(
                self._name,
                f"stands still: nothing was read or written for {STANDSTILL_SECONDS:.0f} s; look in "
                "pg_stat_activity for who locks event_log or the view",
            )


class NotLive:
    """What readiness says of a view whose live version is not that of this code."""

    def __init__(
        self,
        projection: Projection,
        name: str,
        readiness: ReadinessCheck,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._projection = projection
        self._name = name
        self._readiness = readiness
        self._clock = clock
        self._since: dict[tuple[int, int, int], float] = {}  # by version, partition and position

    async def look(self, connection: "Connection") -> None:
        """Set the readiness: green while the replicas of a later version keep the view up to date."""
        name, version = self._projection.name, self._projection.version
        live: int | None = await connection.fetchval(_VERSION, name)
        if live == version:  # built since the claim
            return
        if live is None or live < version:
            found = "it does not exist" if live is None else f"the live view has version {live}"
            self._readiness.starting(self._name, f"waits for the build of version {version}: {found}")
            return
        still = await self._standing_still(connection, live)
        if not still:
            self._readiness.healthy(self._name)
            return
        self._readiness.unhealthy(
            self._name,
            f"stands still in partitions {', '.join(map(str, still))}: the live view has version {live}, "
            f"which no replica runs, and this code has version {version}. Start the release that built it, "
            f"or return to version {version}: `persistence rebuild {name} --downgrade`",
        )

    async def _standing_still(self, connection: "Connection", live: int) -> list[int]:
        """Return the partitions with events to fold, that nobody has held or moved for a while."""
        rows = await connection.fetch(_BEHIND, self._projection.name)
        group = projection_group(self._projection.name, live)
        held = await holders(connection, [lease_name(group, row["partition"]) for row in rows])
        now = self._clock()
        self._since = {
            place: self._since.get(place, now)
            for place in ((live, row["partition"], row["position"]) for row in rows)
            if lease_name(group, place[1]) not in held
        }
        return [
            partition
            for (_, partition, _), since in sorted(self._since.items())
            if now - since >= STANDSTILL_SECONDS
        ]
