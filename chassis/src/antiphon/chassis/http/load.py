"""What the connections of a server hold together, and which of them make room when it is full."""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import Protocol

import structlog

from antiphon.chassis.http.limits import ServerLimits, server_busy

LOG_SECONDS = 10.0  # between two lines about connections over the limit
NEARLY_FULL = 0.75  # of the connections: from there on, heads have less time
CROWDED_SHARE = 5  # the part of the time for a head that is left then
LONG_WAIT_SECONDS = 1.0  # with connections that do nothing, before their standing counts
FREED_SHARE = 16  # the part of all bodies that is freed at once

log = structlog.get_logger(__name__)


class Standing(IntEnum):
    """What a connection does, in the order in which connections are closed to make room."""

    OWING = 0  # no complete head yet, or the rest of a body whose response was sent
    IDLE = 1  # kept alive between requests
    UNFINISHED = 2  # the app waits for the rest of a body
    BUSY = 3  # a request is being answered: never closed


class Pool:
    """Connections by standing, each in the order in which they came to it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.by_standing: tuple[dict[Connection, None], ...] = tuple({} for _ in Standing)

    @property
    def size(self) -> int:
        """The number of connections."""
        return sum(map(len, self.by_standing))

    def first_to_close(self, now: float) -> "Connection | None":
        """Return the connection that makes room for a new one, None if all are being answered.

        While connections come so fast that none has waited for long, that is the oldest of any standing: else
        a new one would be closed before its request is read.
        """
        oldest = [next(iter(connections)) for connections in self.by_standing[: Standing.BUSY] if connections]
        for connection in oldest:
            if now - connection.since >= LONG_WAIT_SECONDS:
                return connection
        return min(oldest, key=lambda connection: connection.since, default=None)


class Connection(Protocol):
    """A connection as the load of its server sees it."""

    address: str  # of the peer
    pool: Pool | None  # None once it is over
    standing: Standing
    since: float  # when it came to its standing
    held_bytes: int  # of bodies

    @property
    def body_owner(self) -> bytes | str:
        """Whose body comes: the credentials of the request, or the address."""

    @property
    def body_unfinished(self) -> bool:
        """Whether the app waits for the rest of a body, and has not begun to answer."""

    def make_room(self) -> None:
        """Close the connection at once."""

    def end_body(self) -> None:
        """Answer 503 instead of waiting for the rest of the body."""


class ServerLoad:
    """The connections of a server share one."""

    def __init__(self, limits: ServerLimits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.draining = False  # each response closes its connection
        self.body_bytes = 0
        self._pool = Pool(limits.connections)
        self._reserve = Pool(limits.reserved)
        self._addresses: dict[str, int] = {}
        self._bodies: dict[Connection, None] = {}
        self._now = now
        self._refused = self._closed = 0
        self._next_line = float("-inf")

    # Connections

    def admit(self, connection: Connection) -> bool:
        """Take a new connection in, and close another one for it if need be; tell whether there is room.

        Its pool is the reserve if all others are being answered: then it is for health checks only.
        """
        count = self._addresses.get(connection.address, 0)
        if 0 < self.limits.connections_per_address <= count:
            self._count(refused=1)
            return False
        now = self._now()
        for pool in (self._pool, self._reserve):
            if pool.size >= pool.limit:
                oldest = pool.first_to_close(now)
                if oldest is None:
                    self._count(refused=1)
                    continue
                self._count(closed=1)
                self.forget(oldest)
                oldest.make_room()
            connection.pool, connection.standing, connection.since = pool, Standing.OWING, now
            pool.by_standing[Standing.OWING][connection] = None
            self._addresses[connection.address] = self._addresses.get(connection.address, 0) + 1
            return True
        return False

    def settle(self, connection: Connection, standing: Standing) -> None:
        """Note what a connection does now."""
        if connection.pool is None or connection.standing is standing:
            return
        of = connection.pool.by_standing
        del of[connection.standing][connection]
        of[standing][connection] = None
        connection.standing = standing
        connection.since = self._now()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is over, and the bytes of its bodies."""
        self.release(connection)
        if connection.pool is None:
            return
        del connection.pool.by_standing[connection.standing][connection]
        connection.pool = None
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]

    def for_health_only(self, connection: Connection) -> bool:
        """Tell whether a connection is one of the reserve."""
        return connection.pool is self._reserve

    def head_seconds(self) -> float:
        """Return the time for a head: less when the server is nearly full."""
        seconds = self.limits.head_seconds
        return seconds / CROWDED_SHARE if self._pool.size > NEARLY_FULL * self._pool.limit else seconds

    def _count(self, *, refused: int = 0, closed: int = 0) -> None:
        self._refused += refused
        self._closed += closed
        now = self._now()
        if now < self._next_line:
            return
        self._next_line = now + LOG_SECONDS
        limit = self.limits.connections
        log.warning("http.too_many_connections", limit=limit, refused=self._refused, closed=self._closed)
        self._refused = self._closed = 0

    # Bodies

    def hold(self, connection: Connection, size: int) -> None:
        """Add the bytes of a body, and end others when all are too large: those of who holds most.

        Raises Problem 503 when this is the one to end.
        """
        self._bodies[connection] = None
        connection.held_bytes += size
        self.body_bytes += size
        if self.body_bytes > self.limits.all_bodies_bytes:
            self._end_bodies(connection)

    def release(self, connection: Connection) -> None:
        """Forget the bytes of a connection's bodies."""
        if connection.held_bytes:
            self.body_bytes -= connection.held_bytes
            connection.held_bytes = 0
            del self._bodies[connection]

    def _end_bodies(self, newest: Connection) -> None:
        held: dict[bytes | str, int] = defaultdict(int)
        unfinished: dict[bytes | str, list[Connection]] = defaultdict(list)
        for connection in reversed(self._bodies):
            owner = connection.body_owner
            held[owner] += connection.held_bytes
            if connection.body_unfinished:
                unfinished[owner].append(connection)
        wanted = self.limits.all_bodies_bytes * (FREED_SHARE - 1) // FREED_SHARE
        for connection in _heaviest_first(held, unfinished):
            if self.body_bytes <= wanted or connection is newest:
                break
            self.release(connection)
            connection.end_body()
        if self.body_bytes > self.limits.all_bodies_bytes:
            raise server_busy()


def _heaviest_first(
    held: Mapping[bytes | str, int], unfinished: Mapping[bytes | str, list[Connection]]
) -> Iterator[Connection]:
    """Yield unfinished bodies: each time the largest of the owner who holds most then."""
    for connections in unfinished.values():
        connections.sort(key=lambda connection: connection.held_bytes)
    heaviest = [(-held[owner], number, owner) for number, owner in enumerate(unfinished)]
    heapq.heapify(heaviest)
    while heaviest:
        weight, number, owner = heapq.heappop(heaviest)
        largest = unfinished[owner].pop()
        if unfinished[owner]:
            heapq.heappush(heaviest, (weight + largest.held_bytes, number, owner))
        yield largest
