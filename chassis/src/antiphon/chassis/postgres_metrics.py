"""The metrics of the connections to Postgres."""

from typing import TYPE_CHECKING, Final

from antiphon.chassis.metrics import OTHER, gauge, histogram

if TYPE_CHECKING:
    pass

SYSTEM: Final = "postgresql"
OPERATIONS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "ROLLBACK", OTHER)

duration = histogram(
    "db.client.operation.duration",
    description="Time of a statement on a connection of a pool, from its start to its last row; the "
    "time until a connection is free is not in it",
    bounds=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    labels={"db.system.name": (SYSTEM,), "db.operation.name": OPERATIONS},
)
connections = gauge(
    "db.client.connection.count",
    unit="{connection}",
    description="Connections of the pools of this process",
    labels={"db.client.connection.state": ("idle", "used")},
)
