"""The shadow of a view while it is built: a schema with its tables and its checkpoints.

On a connection whose search path begins with the schema, the code of the live view writes the shadow.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from antiphon.contracts.cursor import Cursor
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.projection import Projection
from antiphon.persistence.projection.tables import create_statements, index_statements
from antiphon.persistence.rights.declaration import no_statistics, uncounted_columns
from antiphon.persistence.rights.secure import owner_of_views

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

INDEX_SECONDS = 3600
PACKAGES = ("antiphon.persistence", "antiphon.contracts")  # whose code a view depends on

_POSITIONS = "select partition, position from {schema}.projection_checkpoints where projection = $1"
_CLAIM = """
update projection_checkpoints set epoch = epoch + 1, updated_at = now()
 where projection = $1
returning epoch
"""
# Of the live table: `roles` takes their statistics away once there is a direct reader.
_UNCOUNTED_LISTS = """
select array(
    select attname::text from pg_attribute
     where attrelid = to_regclass(format('public.%I', $1::text)) and attnum > 0 and not attisdropped
       and atttypid = 'text[]'::regtype and attstattarget = 0)
"""


Skips = frozenset[tuple[int, int]]  # partition and position of each event that is left out


class Shadow(msgspec.Struct, frozen=True):
    """A build that was started: of which version, since when, by whom; and what it leaves out."""

    version: int
    fingerprint: str
    started_at: datetime
    by: str
    partitions: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def skipped(self) -> Skips:
        """The events that are left out."""
        return frozenset(zip(self.partitions, self.positions, strict=True))


def schema_of(projection: str) -> str:
    """Return the name of the schema in which a view is built."""
    return f"rebuild_{projection}"


def search_path(projection: str) -> str:
    """Return the search path of a connection that writes the shadow of a view."""
    return f"{schema_of(projection)}, public"


def fingerprint(projection: Projection) -> str:
    """Return a hash of the tables of a projection and of all code that may fold its events.

    A build goes on only with the same: what functions call is spread over both packages.
    """
    digest = hashlib.sha256(f"{projection.version} {_sources()}".encode())
    for table in projection.tables:
        digest.update("\n".join(create_statements(table.table)).encode())
    for name, handler in sorted(projection.handlers.items()):
        code = handler.__code__
        digest.update(f"{name} {handler.__qualname__}".encode())
        digest.update(code.co_code)
        digest.update(_source(code.co_filename))
    return digest.hexdigest()[:16]


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = files(package)
        for path, source in sorted(_walk(root, package)):
            digest.update(path.encode() + hashlib.sha256(source).digest())
    return digest.hexdigest()


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{path}/{entry.name}")
        elif entry.name.endswith((".py", ".sql")):
            yield f"{path}/{entry.name}", entry.read_bytes()


@cache
def _source(file: str) -> bytes:
    with suppress(OSError):  # of functions that no file has
        return Path(file).read_bytes()
    return b""


async def read(connection: "Connection", projection: str) -> Shadow | None:
    """Return the build of a view that was started and has not ended, if there is one."""
    if await connection.fetchval("select to_regclass($1)", f"{schema_of(projection)}.build") is None:
        return None
    # as a document: an earlier release may have left a table with fewer columns
    row = await connection.fetchval(f"select row_to_json(build)::text from {schema_of(projection)}.build")
    return None if row is None else msgspec.json.decode(row, type=Shadow)


async def leave_out(connection: "Connection", projection: str, skipped: Skips) -> None:
    """Note which events a build leaves out."""
    await connection.execute(
        f"update {schema_of(projection)}.build set partitions = $1, positions = $2",
        [partition for partition, _ in skipped],
        [position for _, position in skipped],
    )


async def create(connection: "Connection", projection: Projection, by: str) -> None:
    """Create the schema with empty tables, without indexes, in place of what a build with other code left."""
    schema = schema_of(projection.name)
    owner = await owner_of_views(connection)
    async with connection.transaction():
        await drop(connection, projection.name)
        await connection.execute(f"create schema {schema}{f' authorization {owner}' if owner else ''}")
        await connection.execute(f"set local search_path = {search_path(projection.name)}")
        for table in projection.tables:
            await connection.execute(create_statements(table.table)[0])
            texts = [
                name for name, kind in table.sql_types.items() if kind == "text" and name not in table.arrays
            ]
            texts += await connection.fetchval(_UNCOUNTED_LISTS, table.name)
            for column in uncounted_columns(table.name, texts):
                await connection.execute(no_statistics(table.name, column))
        await connection.execute(
            f"create table {schema}.projection_checkpoints (like public.projection_checkpoints including all)"
        )
        await connection.execute(
            f"insert into {schema}.projection_checkpoints (projection, partition, position)"
            " select $1, partition, 0 from generate_series(0, $2::integer) as partition",
            projection.name,
            PARTITIONS - 1,
        )
        await connection.execute(
            f"create table {schema}.build"
            " (version integer, fingerprint text, started_at timestamptz default now(), by text,"
            " partitions integer[] default '{}', positions bigint[] default '{}')"
        )
        await connection.execute(
            f"insert into {schema}.build (version, fingerprint, by) values ($1, $2, $3)",
            projection.version,
            fingerprint(projection),
            by,
        )
        if owner:  # another login may go on with the build
            for name in (*(table.name for table in projection.tables), "projection_checkpoints", "build"):
                await connection.execute(f"alter table {schema}.{name} owner to {owner}")


async def index(connection: "Connection", projection: Projection) -> None:
    """Create the indexes of the shadow: at once they cost less than row by row. It can be done again.

    The connection has the search path of the shadow.
    """
    async with connection.transaction():
        await connection.execute(f"set local statement_timeout = '{INDEX_SECONDS}s'")
        for table in projection.tables:
            for statement in index_statements(table.table):
                await connection.execute(statement, timeout=INDEX_SECONDS)
            await connection.execute(f"analyze {table.name}", timeout=INDEX_SECONDS)


async def drop(connection: "Connection", projection: str) -> None:
    """Drop the shadow of a view, if there is one."""
    await connection.execute(f"drop schema if exists {schema_of(projection)} cascade")


async def positions(connection: "Connection", projection: Projection) -> Cursor:
    """Return how far the shadow is."""
    rows = await connection.fetch(_POSITIONS.format(schema=schema_of(projection.name)), projection.name)
    return Cursor({row["partition"]: row["position"] for row in rows})


async def claim(connection: "Connection", projection: Projection) -> int:
    """Fence an earlier build of the shadow; return the epoch of this one.

    The connection has the search path of the shadow.
    """
    epoch: int = await connection.fetchval(_CLAIM, projection.name)
    return epoch
