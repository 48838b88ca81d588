"""What `run` needs of its role, by what it does: ingest, views, or both."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from antiphon.chassis.rights import lacking, missing_rights
from antiphon.persistence.rights.declaration import INGEST, PROJECTIONS, RIGHTS
from antiphon.persistence.rights.secure import HAS_ROLES

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

_TABLES = "select distinct live.name from projections, unnest(tables) as live (name)"
_CREATE = """
select array_remove(array[
    case when not has_schema_privilege('public', 'create') then 'create on schema public' end,
    case when not has_database_privilege(current_database(), 'create')
         then 'create on database ' || current_database() end], null)
"""
_ERASE = "select has_function_privilege('erase_session(text)', 'execute')"
_COLUMNS = re.compile(r"\s*\([^)]*\)")


class RightsMissing(Exception):
    """The role of a process may not do what the process does; the message says what to do."""


async def check_rights(connection: "Connection", *, ingest: bool, views: bool) -> None:
    """Raise RightsMissing if the role cannot do what the process does. The schema is that of the code."""
    if not await connection.fetchval(HAS_ROLES):
        return  # an earlier schema: the role that migrates runs
    kinds = [kind for kind, wanted in ((INGEST, ingest), (PROJECTIONS, views)) if wanted]
    tables = [name for (name,) in await connection.fetch(_TABLES)]
    missing = await missing_rights(connection, _needed(kinds, tables))
    if views:
        missing += await connection.fetchval(_CREATE)
    if ingest and not await connection.fetchval(_ERASE):
        missing.append("execute on erase_session")
    if missing:
        user = await connection.fetchval("select current_user")
        raise RightsMissing(lacking(user, missing, ",".join(kinds)))


def _needed(kinds: Collection[str], tables: Collection[str]) -> dict[str, set[str]]:
    needed: dict[str, set[str]] = {}
    for kind in kinds:
        for table, rights in RIGHTS[kind].items():
            needed.setdefault(table, set()).update(_COLUMNS.sub("", rights).split(", "))
    if PROJECTIONS in kinds:
        return needed | {table: {"own"} for table in tables}
    if INGEST in kinds and "sessions" in tables:
        needed["sessions"] = {"select", "update", "delete"}
    return needed
