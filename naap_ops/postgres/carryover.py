"""Putting the properties of one database on another, as pg_dump's ``dumpDatabase`` does it.

Names and values are quoted by psycopg; nothing is ever pasted into a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from psycopg import errors as server
from psycopg import sql

from naap_ops.errors import PrivilegeMissing
from naap_ops.postgres.properties import DatabaseProps, Grant, properties

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# Settings that hold a list of quoted names: pg_dump's variable_is_guc_list_quote (src/bin/pg_dump/dumputils.c).
_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


def apply_properties(connection: Connection, name: str, props: DatabaseProps) -> list[str]:
    """Give database ``name`` owner, rights, connection limit, comment, template mark and settings of ``props``, all or nothing.

    What names a role that this cluster does not have is left out, and returned as a list of notes. Raises PrivilegeMissing.
    """
    database = sql.Identifier(name)
    known = _known(connection, _roles(props))
    notes = [f"role {role} does not exist here: {what}" for role, what in _left_out(props, known)]
    try:
        with connection.transaction():
            if props.owner in known:
                _run(connection, "ALTER DATABASE {} OWNER TO {}", database, sql.Identifier(props.owner))
            _run(
                connection,
                "ALTER DATABASE {} CONNECTION LIMIT {} IS_TEMPLATE {}",
                database,
                sql.Literal(props.connection_limit),
                sql.SQL(str(props.is_template)),
            )
            _run(connection, "COMMENT ON DATABASE {} IS {}", database, sql.Literal(props.comment))
            _apply_settings(connection, name, [each for each in props.settings if each[0] is None or each[0] in known])
            _apply_acl(connection, name, props, known)
    except server.InsufficientPrivilege as error:
        action = f"carry over the properties of database {name!r}: {error.diag.message_primary}"
        raise PrivilegeMissing(user=connection.info.user, action=action) from None
    return notes


def _roles(props: DatabaseProps) -> set[str]:
    grants = [role for grant in props.acl or () for role in (grant.grantee, grant.grantor)]
    return {role for role in (props.owner, *grants, *(role for role, _ in props.settings)) if role is not None}


def _left_out(props: DatabaseProps, known: set[str]) -> Iterator[tuple[str, str]]:
    if props.owner not in known:
        yield props.owner, "the owner is not carried over"
    for grant in props.acl or ():
        if grant.grantee is not None and grant.grantee not in known:
            yield grant.grantee, f"its right {grant.privilege} is left out"
    for role, setting in props.settings:
        if role is not None and role not in known:
            yield role, f"its setting {setting.partition('=')[0]} is left out"


def _apply_acl(connection: Connection, name: str, props: DatabaseProps, known: set[str]) -> None:
    """Make the rights what they were: take all away, then grant, the owner's grants first because others depend on them."""
    database = sql.Identifier(name)
    now = properties(connection, name)
    if props.acl is None and now.acl is None:
        return
    everyone = {grant.grantee for grant in now.acl or ()} | {None, now.owner}
    for grantee in everyone:
        _run(connection, "REVOKE ALL ON DATABASE {} FROM {} CASCADE", database, _grantee(grantee))
    if props.acl is None:
        _run(connection, "GRANT ALL ON DATABASE {} TO {}", database, sql.Identifier(now.owner))
        _run(connection, "GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC", database)
        return
    grants = [grant for grant in props.acl if grant.grantee is None or grant.grantee in known]
    for grant in sorted(grants, key=lambda each: each.grantor != props.owner):
        _grant(connection, database, grant, owner=props.owner)


def _grant(connection: Connection, database: sql.Identifier, grant: Grant, *, owner: str) -> None:
    """One GRANT, in the name of whoever gave it where the session may act for that role, else in the owner's."""
    for_other = grant.grantor != owner and _may_act_for(connection, grant.grantor)
    if for_other:
        _run(connection, "SET LOCAL ROLE {}", sql.Identifier(grant.grantor))
    tail = sql.SQL(" WITH GRANT OPTION" if grant.grantable else "")
    _run(connection, "GRANT {} ON DATABASE {} TO {}{}", sql.SQL(grant.privilege), database, _grantee(grant.grantee), tail)
    if for_other:
        connection.execute("RESET ROLE")


def _may_act_for(connection: Connection, role: str) -> bool:
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    row = connection.execute(
        "SELECT pg_has_role(oid, %s) FROM pg_catalog.pg_roles WHERE rolname = %s", [right, role]
    ).fetchone()
    return row is not None and bool(row[0])


def _grantee(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _apply_settings(connection: Connection, name: str, settings: Iterable[tuple[str | None, str]]) -> None:
    database = sql.Identifier(name)
    for role in {role for role, _ in properties(connection, name).settings}:
        _run(connection, "{} RESET ALL", _whose(database, role))
    for role, setting in settings:
        variable, _, value = setting.partition("=")
        _run(connection, "{} SET {} TO {}", _whose(database, role), sql.Identifier(variable), setting_value(variable, value))


def _whose(database: sql.Identifier, role: str | None) -> sql.Composed:
    if role is None:
        return sql.SQL("ALTER DATABASE {}").format(database)
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)


def setting_value(variable: str, value: str) -> sql.Composable:
    """What stands after ``SET variable TO`` for a value of pg_db_role_setting.

    A list of names must be given name by name, or ``"a", "b"`` would become one name with quotes and comma in it.
    """
    if variable.lower() not in _LISTS:
        return sql.Literal(value)
    return sql.SQL(", ").join(sql.Literal(name) for name in list(_names(value)) or [""])


def _names(value: str) -> Iterator[str]:
    """The names of a list, as the server's SplitGUCList reads them: separated by commas, in double quotes where needed."""
    rest = value.strip()
    while rest:
        if rest.startswith('"'):
            end = 1
            while rest[end : end + 1] != '"' or rest[end + 1 : end + 2] == '"':
                end += 2 if rest[end : end + 1] == '"' else 1
            yield rest[1:end].replace('""', '"')
            rest = rest[end + 1 :].lstrip()
        else:
            name, comma, tail = rest.partition(",")
            yield name.rstrip()
            rest = comma + tail
        rest = rest.removeprefix(",").lstrip()


def _known(connection: Connection, roles: Iterable[str]) -> set[str]:
    rows = connection.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY(%s)", [list(roles)])
    return {row[0] for row in rows}


def _run(connection: Connection, statement: str, *parts: sql.Composable) -> None:
    connection.execute(sql.SQL(statement).format(*parts))
