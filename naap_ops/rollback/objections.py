"""The guards and checks with which a reverse begins, asked of the live database before anybody is shown a plan.

Run later, they would stop the reverse as well, with nothing changed; asked now, another way back can be shown in its place.
What stands behind the first statement that changes something is not asked: it speaks of a state that is not there yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops.reverse.document import segments
from naap_ops.reverse.script import parse

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_SECONDS: Final = 0.5  # for the plan: a check that takes longer is left to the run


def objection(connection: Connection, text: str, schema: str) -> str:
    """Why the reverse ``text`` would stop in ``schema`` as the database is now; '' where nothing is known to stop it."""
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
            return str(error.diag.message_primary or error)
        except psycopg.Error:
            if connection.broken:
                raise
            return ""  # it took too long, or speaks of what is not there
    return ""
