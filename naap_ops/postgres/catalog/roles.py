"""Roles that a database needs: owners of its objects and whoever has privileges on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from psycopg import Connection

# pg_shdepend does not list the bootstrap superuser (its objects are "pinned"), hence the owners beside it.
_NEEDED: LiteralString = """
select distinct rolname from pg_roles where rolname !~ '^pg_' and oid in (
  select refobjid from pg_shdepend
    where refclassid = 'pg_authid'::regclass and dbid = (select oid from pg_database where datname = current_database())
  union select datdba from pg_database where datname = current_database()
  union select nspowner from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
  union select relowner from pg_class where oid >= 16384
  union select proowner from pg_proc where oid >= 16384
  union select typowner from pg_type where oid >= 16384
) order by rolname
"""


def needed_roles(connection: Connection) -> list[str]:
    """Names of the roles without which a restore with ownership and privileges fails, sorted."""
    return [name for (name,) in connection.execute(_NEEDED)]


def missing_roles(connection: Connection, wanted: list[str]) -> list[str]:
    """Those of ``wanted`` that this server does not have, sorted. The ``pg_`` ones are the server's own."""
    present = {name for (name,) in connection.execute("select rolname from pg_roles where rolname = any(%s)", (wanted,))}
    return sorted(set(wanted) - present)
