"""The metrics of the connections to Postgres."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from antiphon.chassis.metrics import OTHER, AtMost, gauge, histogram
from antiphon.chassis.sql_spans import SYSTEM, sql_attributes

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.connection import LoggedQuery

    Connection = asyncpg.Connection[asyncpg.Record]


class Sized(Protocol):
    """A pool that knows how many connections it has."""

    def get_size(self) -> int:
        """Return the number of connections."""

    def get_idle_size(self) -> int:
        """Return the number of those that nobody uses."""

    def get_max_size(self) -> int:
        """Return the number that there may be."""


OPERATIONS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK", OTHER)

duration = histogram(
    "db.client.operation.duration",
    description="Time of a statement on a connection of a pool, from its start to its last row; the "
    "time until a connection is free is not in it",
    bounds=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    labels={"db.system.name": (SYSTEM,), "db.operation.name": OPERATIONS},
)
POOL: Final = AtMost(8, "the names of the pools, as Postgres shows them in `application_name`")
connections = gauge(
    "db.client.connection.count",
    unit="{connection}",
    description="Connections of the pools of this process",
    labels={"db.client.connection.pool.name": POOL, "db.client.connection.state": ("idle", "used")},
)
most = gauge(
    "db.client.connection.max",
    unit="{connection}",
    description="Connections that the pools of this process may have",
    labels={"db.client.connection.pool.name": POOL},
)


def time_statements(connection: "Connection") -> None:
    """Record the time of each statement of a connection."""
    connection.add_query_logger(_record)  # of asyncpg: it calls back after the statement, on the loop


def watch_pool(pool: Sized, name: str) -> Callable[[], None]:
    """Count the connections of a pool from now on; return a function that ends it."""

    def read() -> dict[tuple[str, ...], float]:
        idle = pool.get_idle_size()
        return {(name, "idle"): idle, (name, "used"): pool.get_size() - idle}

    ends = connections.watch(read), most.watch(lambda: {(name,): pool.get_max_size()})

    def end() -> None:
        for each in ends:
            each()

    return end


def _record(statement: "LoggedQuery") -> None:
    operation = sql_attributes(statement.query)["db.operation.name"]
    duration.record(statement.elapsed, SYSTEM, str(operation))
