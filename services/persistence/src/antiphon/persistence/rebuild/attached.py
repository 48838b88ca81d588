"""What operators attached to the tables of a view: the new ones get it, or the rebuild is refused."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from antiphon.persistence.projection import Projection
from antiphon.persistence.rebuild.shadow import schema_of

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

ROW_FILTERS = 15  # the version of Postgres since which publications have them

_LIVE = "select tables from public.projections where name = $1"

# Objects that would be lost with the tables, or that would keep them from being dropped.
_IN_THE_WAY = """
with live as (select oid, reltype from pg_class where oid = any($1::regclass[])),
     types as (select oid from pg_type where typrelid in (select oid from live)
                                          or typelem in (select reltype from live)),
     found (classid, objid) as (
  select 'pg_trigger'::regclass, oid from pg_trigger
   where tgrelid in (select oid from live) and not tgisinternal
   union
  select 'pg_rewrite'::regclass, oid from pg_rewrite where ev_class in (select oid from live)
   union
  select 'pg_constraint'::regclass, oid from pg_constraint
   where contype = 'f' and (conrelid in (select oid from live) or confrelid in (select oid from live))
   union
  select 'pg_class'::regclass, inhparent from pg_inherits where inhrelid in (select oid from live)
   union
  select 'pg_class'::regclass, inhrelid from pg_inherits where inhparent in (select oid from live)
   union
  select 'pg_class'::regclass, indexrelid from pg_index join pg_class on pg_class.oid = indrelid
   where indrelid in (select oid from live) and relreplident = 'i' and indisreplident
   union
  select classid, objid from pg_depend
   where deptype = 'n'
     and ((refclassid = 'pg_class'::regclass and refobjid in (select oid from live))
       or (refclassid = 'pg_type'::regclass and refobjid in (select oid from types)))
)
select distinct case
         when classid = 'pg_rewrite'::regclass and view.relkind in ('v', 'm')
         then pg_describe_object('pg_class'::regclass, view.oid, 0)
         else pg_describe_object(classid, objid, 0)
       end as name
  from found
  left join pg_rewrite on classid = 'pg_rewrite'::regclass and pg_rewrite.oid = objid
  left join pg_class as view on view.oid = ev_class
 where not exists (select from live where classid = 'pg_class'::regclass and live.oid = objid)
   and not exists (
     select from pg_constraint
      where classid = 'pg_constraint'::regclass and pg_constraint.oid = objid
        and contype <> 'f' and conrelid in (select oid from live))
   and not exists (
     select from pg_policy
      where classid = 'pg_policy'::regclass and pg_policy.oid = objid and polrelid in (select oid from live))
   and not exists (
     select from pg_publication_rel
      where classid = 'pg_publication_rel'::regclass and pg_publication_rel.oid = objid)
 order by name
"""

# Statements that give the tables of the schema $2, which have the names $3, what the tables $1 have.
_TABLES = """
select oid, format('%I.%I', $2::text, relname) as name,
       to_regclass(format('%I.%I', $4::text, relname)) as built,
       relowner, relacl, relrowsecurity, relforcerowsecurity, relreplident
  from pg_class where oid = any($1::regclass[]) and relname = any($3::text[])
"""
_WHOM = "case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end"
_OPTION = "case when is_grantable then ' with grant option' else '' end"
_OWNERS = f"""
with live as ({_TABLES})
select format('alter table %s owner to %s', name, quote_ident(pg_get_userbyid(live.relowner)))
  from live join pg_class on pg_class.oid = built where live.relowner <> pg_class.relowner
"""
_COPIED = f"""
with live as ({_TABLES})
select 1, format('revoke all on %s from %s', name, {_WHOM})
  from live join pg_class on pg_class.oid = built, aclexplode(pg_class.relacl)
 where grantee <> pg_class.relowner
 union all
select 2, format('grant %s on %s to %s%s', privilege_type, name, {_WHOM}, {_OPTION})
  from live, aclexplode(relacl) where grantee <> relowner
 union all
select 2, format('grant %s (%I) on %s to %s%s', privilege_type, attname, name, {_WHOM}, {_OPTION})
  from live join pg_attribute as old on attrelid = oid and attnum > 0 and not attisdropped,
       aclexplode(attacl)
 where grantee <> relowner
   and exists (select from pg_attribute as new where new.attrelid = built and new.attname = old.attname)
 union all
select 3, format('create policy %I on %s as %s for %s to %s%s%s', polname, name,
         case when polpermissive then 'permissive' else 'restrictive' end,
         case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                     when 'd' then 'delete' else 'all' end,
         (select string_agg({_WHOM}, ', ') from unnest(polroles) as grantee),
         ' using (' || pg_get_expr(polqual, polrelid) || ')',
         ' with check (' || pg_get_expr(polwithcheck, polrelid) || ')')
  from live join pg_policy on polrelid = live.oid
 union all
select 3, format('alter table %s enable row level security', name) from live where relrowsecurity
 union all
select 3, format('alter table %s force row level security', name) from live where relforcerowsecurity
 union all
select 4, format('alter table %s replica identity %s', name,
                 case relreplident when 'f' then 'full' else 'nothing' end)
  from live where relreplident in ('f', 'n')
 union all
select 4, format('alter publication %I add table %s%s', pubname, name, {{published}})
  from live join pg_publication_rel on prrelid = live.oid
  join pg_publication on pg_publication.oid = prpubid
 order by 1, 2
"""
_PUBLISHED = """concat(
  (select ' (' || string_agg(quote_ident(attname), ', ' order by attnum) || ')'
     from pg_attribute where attrelid = prrelid and attnum = any(prattrs::smallint[])),
  ' where (' || pg_get_expr(prqual, prrelid) || ')')"""


class InUse(Exception):
    """Something that is not ours depends on a table of the view; the message says what."""


async def live_tables(connection: "Connection", projection: Projection) -> list[str]:
    """Return the tables that readers of a view see now, with their schema; none before its first build."""
    tables: list[str] = await connection.fetchval(_LIVE, projection.name) or []
    return [f"public.{table}" for table in tables]


async def check_replaceable(connection: "Connection", live: Sequence[str]) -> None:
    """Raise InUse if something depends on the live tables that the new ones cannot be given."""
    if found := await connection.fetch(_IN_THE_WAY, live):
        tables = ", ".join(table.removeprefix("public.") for table in live)
        raise InUse(
            f"{', '.join(row['name'] for row in found)} depends on {tables}, which a rebuild replaces: "
            "drop it, and create it again after the rebuild"
        )


async def attached(
    connection: "Connection", projection: Projection, live: Sequence[str], schema: str = "public"
) -> list[str]:
    """Return statements that give tables of a schema the access, policies and publications of the live ones.

    The shadow is there, and is in the search path or not. The owner comes last.
    """
    names = [table.name for table in projection.tables]
    arguments = (live, schema, names, schema_of(projection.name))
    filters = connection.get_server_version().major >= ROW_FILTERS
    copied = await connection.fetch(_COPIED.format(published=_PUBLISHED if filters else "''"), *arguments)
    owners = await connection.fetch(_OWNERS, *arguments) if schema == "public" else []
    return [*(row[1] for row in copied), *(row[0] for row in owners)]


async def attach(connection: "Connection", statements: Sequence[str]) -> None:
    """Run the statements of `attached`. Raises InUse with the one that fails."""
    for statement in statements:
        try:
            await connection.execute(statement)
        except (asyncpg.SyntaxOrAccessError, asyncpg.InvalidObjectDefinitionError) as error:
            raise InUse(
                f"the new tables cannot have what the live ones have: `{statement}` fails: {error}. "
                "Drop it, or run the rebuild as a role that may do this"
            ) from error


async def rehearse(connection: "Connection", projection: Projection) -> None:
    """Find out before the work whether the tables can be replaced: attach all to the shadow, and roll back.

    Raises InUse.
    """
    live = await live_tables(connection, projection)
    await check_replaceable(connection, live)
    transaction = connection.transaction()
    await transaction.start()
    try:
        shadow = schema_of(projection.name)
        await attach(connection, await attached(connection, projection, live, shadow))
    finally:
        await transaction.rollback()
