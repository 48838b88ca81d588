"""What each group role may do: the rights on tables, and row-level security on views, as statements.

Rights are given again after each migration and each swap of a view, so that new tables have what is declared
here, and nothing else.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from antiphon.contracts.views import TABLES

INGEST = "ingest"  # the log, and the erasure of test sessions
PROJECTIONS = "projections"  # owns the views, and builds them
READER = "reader"  # session-api
ANALYST = "analyst"  # all views of all tenants
TENANTS = "tenants"  # direct readers: the rows of one tenant
KINDS = (INGEST, PROJECTIONS, READER, ANALYST, TENANTS)

_VERSION = MappingProxyType({"alembic_version": "select", "schema_compatibility": "select"})

# The rights on tables that are no views.
RIGHTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        INGEST: {
            **_VERSION,
            "event_log": "select, insert",
            "checkpoints": "select, insert, update",
            "dead_letters": "select, insert",
            "log_gaps": "select, insert, update",
            "erased_sessions": "select, update (erased_at)",  # to lock a row; erase_session writes
            "erased_events": "select",
            "projections": "select",
        },
        PROJECTIONS: {
            **_VERSION,
            "event_log": "select",
            "checkpoints": "select",
            "projections": "select, insert, update",
            "projection_checkpoints": "select, insert, update, delete",
            "projection_skips": "select, insert",
            "access_roles": "select",
        },
        READER: {"event_log": "select", "checkpoints": "select", "erased_sessions": "select"},
        ANALYST: {},
        TENANTS: {"tenant_readers": "select"},
    }
)
READ_BY_READER = frozenset({"sessions", "turns", "usage", "daily", "timeline"})
FUNCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({INGEST: ("erase_session(text)",)})

# The text columns that may have statistics. `explain` shows estimates, which are made from the values of all
# tenants: by them a reader finds texts of others, letter by letter.
COUNTED = frozenset(
    {"tenant", "session_id", "status", "kind", "lane", "state", "agent_state", "user_state", "language"}
    | {"provider", "model"}
)

ALL_ROWS = "antiphon_all"  # the policies
OWN_TENANT = "antiphon_tenant"
OWN_ROW = "antiphon_own"
_OF_THE_ROLE = "tenant = (select tenant from public.tenant_readers where role = current_user)"


# Statistics that are there: before Postgres 18 only a change of the type forgets them, here to the same one.
_FORGET = """do $$
begin
    if current_setting('server_version_num')::integer >= 180000 then
        perform pg_clear_attribute_stats('public', '{table}', '{column}', false);
    elsif exists (
        select from pg_stats
         where schemaname = 'public' and tablename = '{table}' and attname = '{column}')
    then
        execute (
            select format('alter table public.%I alter column %I type %s collate %s', '{table}', '{column}',
                          format_type(atttypid, null), attcollation::regcollation)
              from pg_attribute where attrelid = 'public.{table}'::regclass and attname = '{column}');
    end if;
end $$"""


class ViewTable(Struct, frozen=True):
    """A table of a live view as it is: its owner, whether it has row-level security, its policies."""

    name: str
    owner: str
    secured: bool
    columns: frozenset[str]
    policies: dict[str, list[str]]  # the roles of each
    counted: list[str] = []  # the text columns of which Postgres makes statistics
    counted_lists: list[str] = []  # those of lists of texts


class Access(Struct, frozen=True):
    """The state of a database: its group roles that exist, by kind, and what they have rights on."""

    owner: str
    database: str
    user: str
    superuser: bool
    roles: dict[str, str]
    tables: list[str]  # that are no views
    views: list[ViewTable]
    own_row: list[str] | None = None
    readers: bool = False  # whether there is a direct reader


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def table_statements(access: Access) -> list[str]:
    """Return what gives the rights on all tables that are no views; the owner of the tables runs it."""
    statements = []
    tables = ", ".join(quoted(table) for table in access.tables)
    for kind, role in access.roles.items():
        to = quoted(role)
        statements.append(f"revoke all on {tables} from {to}")
        statements += [f"grant {rights} on {table} to {to}" for table, rights in RIGHTS[kind].items()]
        statements += [f"grant execute on function {each} to {to}" for each in FUNCTIONS.get(kind, ())]
    tenants = access.roles.get(TENANTS)
    if tenants is not None and access.own_row != [tenants]:
        statements.append(f"drop policy if exists {OWN_ROW} on tenant_readers")
        statements.append(
            f"create policy {OWN_ROW} on tenant_readers for select to {quoted(tenants)}"
            " using (role = current_user)"
        )
    return statements


def view_statements(access: Access, names: Iterable[str] | None = None) -> list[str]:
    """Return what gives the rights on tables of views, all by default; their owner runs it.

    A policy that is there stays: to make one waits for all readers of the table.
    """
    wanted = None if names is None else set(names)
    statements = []
    for table in access.views:
        if wanted is not None and table.name not in wanted:
            continue
        statements += _grants(access.roles, table)
        if table.name in TABLES:
            statements += _policies(access.roles, table)
            # by `@>` a reader finds whether others have a text; without one they make common filters faster
            for column in table.counted_lists if access.readers else ():
                statements += _uncounted(table.name, column)
        owner = access.roles.get(PROJECTIONS)
        if owner is not None and table.owner != owner:  # last: it takes the rights of the owner before
            statements.append(f"alter table {quoted(table.name)} owner to {quoted(owner)}")
    return statements


def _grants(roles: Mapping[str, str], table: ViewTable) -> list[str]:
    name = quoted(table.name)
    # not from the owner, who would be without rights
    groups = ", ".join(quoted(role) for kind, role in roles.items() if kind != PROJECTIONS)
    found = [f"revoke all on {name} from {groups}"] if groups else []
    found += [
        f"grant select on {name} to {quoted(roles[kind])}"
        for kind in (READER, ANALYST, TENANTS)
        if kind in roles and table.name in (READ_BY_READER if kind == READER else TABLES)
    ]
    if INGEST in roles and "session_id" in table.columns:
        read = "select, update (updated_at)" if table.name == "sessions" else "select (session_id)"
        found.append(f"grant delete, {read} on {name} to {quoted(roles[INGEST])}")
    return found


def _policies(roles: Mapping[str, str], table: ViewTable) -> list[str]:
    if not roles:
        return []
    name, found = quoted(table.name), []
    everybody = sorted(roles[kind] for kind in (INGEST, READER, ANALYST) if kind in roles)
    tenants = sorted(roles[kind] for kind in (TENANTS,) if kind in roles)
    for policy, to, rows in (
        (ALL_ROWS, everybody, "for all to {} using (true)"),
        (OWN_TENANT, tenants, f"for select to {{}} using ({_OF_THE_ROLE})"),
    ):
        if to and sorted(table.policies.get(policy, ())) != to:
            found.append(f"drop policy if exists {policy} on {name}")
            found.append(f"create policy {policy} on {name} {rows.format(', '.join(map(quoted, to)))}")
    if not table.secured:
        found.append(f"alter table {name} enable row level security")
    if tenants:
        found += [statement for column in table.counted for statement in _uncounted(table.name, column)]
    return found


def uncounted_columns(table: str, columns: Iterable[str]) -> list[str]:
    """Return which text columns of a table of a view may have no statistics, as direct readers see those."""
    return [column for column in columns if table in TABLES and column not in COUNTED]


def no_statistics(table: str, column: str) -> str:
    """Return the statement by which Postgres makes no statistics of a column from now on."""
    return f"alter table {quoted(table)} alter column {quoted(column)} set statistics 0"


def _uncounted(table: str, column: str) -> tuple[str, ...]:
    if not uncounted_columns(table, [column]):
        return ()
    return no_statistics(table, column), _FORGET.format(table=table, column=column)
