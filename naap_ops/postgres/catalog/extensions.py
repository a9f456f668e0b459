"""Extensions: which are installed here, which could be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection


def extensions(connection: Connection) -> list[dict[str, str]]:
    """Installed extensions as ``{name, version, schema}``, by name; plpgsql is everywhere and left out."""
    query = """
    select e.extname, e.extversion, n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname <> 'plpgsql' order by e.extname
    """
    return [{"name": name, "version": version, "schema": schema} for name, version, schema in connection.execute(query)]


def unavailable(connection: Connection, wanted: list[str]) -> list[str]:
    """Those of ``wanted`` that the server has no files for, sorted."""
    rows = connection.execute("select name from pg_available_extensions where name = any(%s)", (wanted,))
    return sorted(set(wanted) - {name for (name,) in rows})
