"""Which rights the role of a connection lacks on tables that exist: named at start, not by a failed query."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

# A right on some columns counts. Rows may also be hidden, without an error: that counts as a right too.
_MISSING = """
with wanted (name, right_) as (select * from unnest($1::text[], $2::text[])),
     found as (
       select wanted.*, pg_class.oid, relowner, relrowsecurity
         from wanted join pg_class on relname = name and relnamespace = 'public'::regnamespace
     ),
     missing as (
       select name, right_ from found
        where not case right_
                    when 'own' then pg_has_role(relowner, 'usage')
                    when 'delete' then has_table_privilege(oid, right_)
                    else has_any_column_privilege(oid, right_)
                  end
        union
       select name, 'rows' from found
        where relrowsecurity and row_security_active(found.oid)
          and not exists (
            select from pg_policy, unnest(polroles) as member
             where polrelid = found.oid and pg_get_expr(polqual, polrelid) = 'true'
               and (member = 0 or pg_has_role(member, 'usage')))
        union
       select 'schema public', 'usage' where not has_schema_privilege('public', 'usage')
     )
select right_ || ' on ' || name from missing order by 1
"""


async def missing_rights(connection: "Connection", needed: Mapping[str, Collection[str]]) -> list[str]:
    """Return the rights that the role lacks, as "select on event_log"; `needed` has those of each table.

    A right is one of Postgres, or `own`. "rows on" a table is row-level security that hides all of them.
    Tables that do not exist are left out.
    """
    pairs = [(table, right) for table, rights in needed.items() for right in rights]
    rows = await connection.fetch(_MISSING, [table for table, _ in pairs], [right for _, right in pairs])
    return [row[0] for row in rows]


def lacking(user: str, missing: Collection[str], kinds: str) -> str:
    """Return what a process says that lacks rights: which, and the command that grants them."""
    return (
        f"The role {user} of ANTIPHON_POSTGRES_DSN lacks {', '.join(missing)}: run "
        f"`python -m antiphon.persistence roles --login {user}={kinds} --apply` as the owner of the tables, "
        "or use the owner's DSN."
    )
