"""Read what a database gives to whom, and give its group roles their rights again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from antiphon.persistence.rights.declaration import (
    PROJECTIONS,
    Access,
    quoted,
    table_statements,
    view_statements,
)

if TYPE_CHECKING:
    from antiphon.chassis.database import Connection

HAS_ROLES = "select to_regclass('public.access_roles') is not null"

# As one document: two drivers read it.
STATE = """
select json_build_object(
    'owner', (select pg_get_userbyid(relowner) from pg_class where oid = 'public.event_log'::regclass),
    'database', current_database(),
    'user', current_user,
    'superuser', (select rolsuper from pg_roles where rolname = current_user),
    'roles', (
        select coalesce(json_object_agg(kind, role), '{}')
          from public.access_roles join pg_roles on rolname = role),
    'readers', exists (
        select from public.access_roles join pg_roles on rolname = role
          join pg_auth_members on roleid = pg_roles.oid
         where kind = 'tenants' and not admin_option),
    'tables', array(
        select relname from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
           and pg_has_role(relowner, 'usage')
           and relname not in (
               select live.name from public.projections, unnest(projections.tables) as live (name))
         order by 1),
    'own_row', (
        select array(select pg_get_userbyid(member)::text from unnest(polroles) as member order by 1)
          from pg_policy where polrelid = 'public.tenant_readers'::regclass and polname = 'antiphon_own'),
    'views', (
        select coalesce(json_agg(json_build_object(
            'name', relname,
            'owner', pg_get_userbyid(relowner),
            'secured', relrowsecurity,
            'columns', array(
                select attname from pg_attribute
                 where attrelid = relation.oid and attnum > 0 and not attisdropped),
            'counted', array(
                select attname from pg_attribute
                 where attrelid = relation.oid and attnum > 0 and not attisdropped
                   and atttypid = 'text'::regtype and attstattarget is distinct from 0
                 order by attnum),
            'counted_lists', array(
                select attname from pg_attribute
                 where attrelid = relation.oid and attnum > 0 and not attisdropped
                   and atttypid = 'text[]'::regtype and attstattarget is distinct from 0
                 order by attnum),
            'policies', (
                select coalesce(json_object_agg(polname, array(
                           select pg_get_userbyid(member)::text from unnest(polroles) as member)), '{}')
                  from pg_policy where polrelid = relation.oid)) order by relname), '[]')
          from public.projections, unnest(projections.tables) as live (name)
          join pg_class as relation on relation.oid = to_regclass(format('public.%I', live.name))
    ))::text
"""

_OWNER_OF_VIEWS = "select role from public.access_roles join pg_roles on rolname = role where kind = $1"

decode = msgspec.json.Decoder(Access).decode


async def read_access(connection: "Connection") -> Access:
    """Return what is given to whom. The schema is of revision 0010 or later."""
    return decode(await connection.fetchval(STATE))


def all_statements(access: Access) -> list[str]:
    """Return what gives the group roles their rights; nothing where there are none."""
    return [*table_statements(access), *view_statements(access)] if access.roles else []


async def secure_views(connection: "Connection", tables: Sequence[str]) -> None:
    """Give the group roles their rights on tables of views that were swapped in, in their transaction."""
    if not await connection.fetchval(HAS_ROLES):
        return
    access = await read_access(connection)
    if access.roles:
        for statement in view_statements(access, tables):
            await connection.execute(statement)


async def owner_of_views(connection: "Connection") -> str | None:
    """Return the role that owns the views, as an identifier; None where views are their builder's."""
    if not await connection.fetchval(HAS_ROLES):
        return None
    role: str | None = await connection.fetchval(_OWNER_OF_VIEWS, PROJECTIONS)
    return None if role is None else quoted(role)
