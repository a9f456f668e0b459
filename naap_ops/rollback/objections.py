"""The guards and checks with which a reverse begins, asked of the live database before anybody is shown a plan.

Run later, they would stop the reverse as well, with nothing changed; asked now, another way back can be shown in its place.
What stands behind the first statement that changes something is not asked: it speaks of a state that is not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops.reverse.document import segments
from naap_ops.reverse.script import parse
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SECONDS: Final = 0.5  # for the plan: a check that takes longer is left to the run
_KEYS: Final = 5
_NAME: Final = r'(?:"(?:[^"]|"")*"|\w+)'
_QUERY: Final = re.compile(r"IF EXISTS \((SELECT 1 FROM .*?)\) THEN\n    RAISE EXCEPTION", re.DOTALL)
_OF: Final = re.compile(rf"SELECT 1 FROM ({_NAME}(?:\.{_NAME})?)(?: (child|r))?(?: WHERE (.*))?", re.DOTALL)
_TABLE: Final = re.compile(rf"IF EXISTS \(SELECT [^()]*? FROM ({_NAME}(?:\.{_NAME})?)")
_KEY: Final = """
select array(select pg_catalog.quote_ident(a.attname) from unnest(i.indkey) with ordinality n (number, nth)
  join pg_catalog.pg_attribute a on (a.attrelid, a.attnum) = (i.indrelid, n.number) order by n.nth)
from pg_catalog.pg_index i where i.indrelid = pg_catalog.to_regclass(%s) and i.indisprimary
"""


def objection(connection: Connection, text: str, schema: str, chosen: Collection[str] = ()) -> str:
    """Why the reverse ``text`` would stop in ``schema`` as the database is now; '' where nothing is known to stop it.

    ``chosen``: tables, as SQL, whose rows are made to fit before it runs: checks of these are passed over."""
    parts = segments(text)
    if not parts:
        return ""
    for statement in parse(parts[0].sql.encode(), name="down.sql").statements:
        if statement.tag == "SET":
            continue
        if statement.tag != "DO":
            return ""
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("set transaction read only")
                connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(schema)))
                connection.execute(f"set local statement_timeout = {int(_SECONDS * 1000)}".encode())
                connection.execute(statement.sql.encode())
        except server.RaiseException as error:
            found = _TABLE.search(statement.sql)
            if found is not None and found[1] in chosen:
                continue
            return str(error.diag.message_primary or error) + _which(connection, statement.sql, schema)
        except psycopg.Error:
            if connection.broken:
                raise
            return ""  # it took too long, or speaks of what is not there
    return ""


def _which(connection: Connection, check: str, schema: str) -> str:
    """How many rows stand in the way, and the keys of some; '' where that is not known soon enough, or it is not about rows."""
    found = _QUERY.search(check)
    parsed = _OF.fullmatch(found[1]) if found else None
    if parsed is None:
        return ""
    table, alias, where = parsed.groups()
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("set transaction read only")
            connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(schema)))
            connection.execute(f"set local statement_timeout = {int(_SECONDS * 1000)}".encode())
            rows = f"FROM {table} {alias or ''} {f'WHERE {where}' if where else ''}"
            row = connection.execute(f"SELECT count(*) {rows}".encode()).fetchone()
            key = connection.execute(_KEY, [table]).fetchone()
            listed = (
                f"SELECT concat_ws(', ', {', '.join(key[0])}) {rows} ORDER BY {', '.join(key[0])} LIMIT {_KEYS}" if key else ""
            )
            keys = [value for (value,) in connection.execute(listed.encode()).fetchall()] if listed else []
    except psycopg.Error:
        if connection.broken:
            raise
        return ""
    count = int(row[0]) if row else 0
    more = ", ..." if count > len(keys) else ""
    named = f", of key {'; '.join(keys)}{more}" if keys else ""
    return f" ({count_of(count, 'row')}{named})"
