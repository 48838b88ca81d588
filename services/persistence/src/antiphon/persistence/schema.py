"""The tables of Postgres that migrations create: the event log, checkpoints and dead letters.

Those of the views are declared by their projections.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.types import UserDefinedType

naming = {
    "pk": "%(table_name)s_pk",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
}
metadata = MetaData(naming_convention=naming)

Name = Text(collation="C")  # ids compare as bytes: no locale, and half the cost of an index
Instant = DateTime(timezone=True)
Document = JSON(none_as_null=True)  # json, not jsonb: it keeps the exact text and accepts \u0000


class RoleName(UserDefinedType[str]):
    """The type of Postgres for names of roles, which current_user has."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type in SQL."""
        return "name"


def required(name: str, type_: Any, *more: Any, **options: Any) -> Column[Any]:
    """Declare a column that is never null."""
    return Column(name, type_, *more, nullable=False, **options)


event_log = Table(
    "event_log",
    metadata,
    required("session_id", Name),
    required("sequence", Integer),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("tenant", Name),
    required("event_id", Name),
    required("type", Name),
    required("version", SmallInteger),
    required("occurred_at", Instant),
    required("envelope", Document),
    # Null for events from before revision 0008.
    Column("committed_at", Instant),
    Column("hash", LargeBinary),
    Column("chain", LargeBinary),
    PrimaryKeyConstraint("session_id", "sequence"),
    UniqueConstraint("partition", "position"),
    UniqueConstraint("session_id", "event_id"),
    Index(None, "tenant", "partition", "position"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    required("name", Name, primary_key=True),
    required("position", BigInteger, server_default=text("0")),
    required("epoch", BigInteger, server_default=text("0")),
    required("updated_at", Instant, server_default=func.now()),
    Column("last_event_id", Text),
    required("read_through", BigInteger, server_default=text("0")),
    Column("stream_created_at", Instant),
    Column("stopped", Text),
    Column("committed_at", Instant),
    Column("chain", LargeBinary),
    Column("chained_after", BigInteger),
    required("chained", BigInteger, server_default=text("0")),
)

# The views that readers see, and the version of the code that built each.
projections = Table(
    "projections",
    metadata,
    required("name", Name, primary_key=True),
    required("version", Integer),
    required("tables", ARRAY(Name)),
    required("built_at", Instant, server_default=func.now()),
)

projection_checkpoints = Table(
    "projection_checkpoints",
    metadata,
    required("projection", Name),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("updated_at", Instant, server_default=func.now()),
    required("epoch", BigInteger, server_default=text("0")),
    Column("stalled", Document),
    PrimaryKeyConstraint("projection", "partition"),
)

# Events that an operator made a projection skip: a rebuild skips them too.
projection_skips = Table(
    "projection_skips",
    metadata,
    required("projection", Name),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("session_id", Name),
    required("sequence", Integer),
    required("event_id", Name),
    required("type", Name),
    required("error", Text),
    required("skipped_at", Instant, server_default=func.now()),
    PrimaryKeyConstraint("projection", "partition", "position"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    required("id", BigInteger, Identity(always=True), primary_key=True),
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("subject", Text),
    required("payload", LargeBinary),
    Column("headers", Document),
    required("error", Text),
    required("recorded_at", Instant, server_default=func.now()),
    UniqueConstraint("partition", "position"),
)

log_gaps = Table(
    "log_gaps",
    metadata,
    required("partition", SmallInteger),
    required("first", BigInteger),
    required("last", BigInteger),
    required("reason", Text),
    required("noticed_at", Instant, server_default=func.now()),
    PrimaryKeyConstraint("partition", "first"),
)

erased_sessions = Table(
    "erased_sessions",
    metadata,
    required("session_id", Name, primary_key=True),
    required("tenant", Name),
    required("last_sequence", Integer),
    required("erased_at", Instant, server_default=func.now()),
    Column("last_hash", LargeBinary),
)

erased_events = Table(
    "erased_events",
    metadata,
    required("partition", SmallInteger),
    required("position", BigInteger),
    required("session_id", Name),
    required("sequence", Integer),
    required("hash", LargeBinary),
    PrimaryKeyConstraint("partition", "position"),
)

# The group role of each kind of access, and the tenant of each login that reads the views directly.
access_roles = Table(
    "access_roles",
    metadata,
    required("kind", Name, primary_key=True),
    required("role", RoleName),
)

tenant_readers = Table(
    "tenant_readers",
    metadata,
    required("role", RoleName, primary_key=True),
    required("tenant", Name),
)

# One row: the oldest revision whose code can run with the schema (see migrations/compatibility.py).
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    required("compatible_from", Name, primary_key=True),
)
