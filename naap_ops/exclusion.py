"""One procedure at a time on a database: deploy, guard, reset, untrack, rollback and emergency keep out of each other's way.

Of two operators on two machines the second is told who the first is: an advisory lock on the server says so. What was begun and
not ended by somebody who is gone is known from the journals, and has to be ended first: a deploy in the middle of somebody's
emergency would be lost with the database that it went to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from naap_ops.app import App
from naap_ops.errors import ProcedureUnfinished
from naap_ops.postgres.session import connect
from naap_ops.procedure import journal as journals
from naap_ops.restore.locking import ProcedureLock, procedure_lock

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo

INSIDE = "NAAPOPS_INSIDE"
"""Set for the commands that a procedure runs, to the database's name: what such a command calls is a part of it."""

RESUMABLE = ("emergency", "rollback")


def named(app: App, database: str | None) -> ConnInfo:
    """How to reach it, with the database's name, which the environment may leave to the server."""
    info = app.info(database)
    if info.dbname:
        return info
    with closing(connect(info)) as connection:
        return info.with_dbname(connection.info.dbname)


@contextmanager
def alone(app: App, info: ConnInfo, what: str, *, needed: bool = False, refuse: bool = True) -> Iterator[ProcedureLock]:
    """Nobody else's procedure on the database that ``info`` names, running or unfinished, for the length of the block.

    ``refuse`` False: unfinished ones are no hindrance. A command that a procedure runs is let through: services that deploy
    when they start. ``needed``: as in :func:`naap_ops.restore.locking.procedure_lock`. Raises Busy, which names the other,
    ProcedureUnfinished.
    """
    if os.environ.get(INSIDE) == info.dbname:
        yield ProcedureLock(info, info.dbname or "", what, needed=False)
        return
    with procedure_lock(info, info.dbname or "", what, needed=needed) as lock:
        if refuse:
            refuse_unfinished(app, info)
        yield lock


def unfinished(app: App, info: ConnInfo, procedure: str) -> list[str]:
    """Ids of those that were begun for this database and have not ended."""
    return [
        each.id
        for each in journals.unfinished(app.state / "journal", procedure)
        if each.request.get("database") == info.dbname and each.request.get("address") in (info.address, None)
    ]


def refuse_unfinished(app: App, info: ConnInfo) -> None:
    """Raise ProcedureUnfinished where one must be ended first."""
    for procedure in RESUMABLE:
        if ids := unfinished(app, info, procedure):
            raise ProcedureUnfinished(procedure=procedure, ids=", ".join(ids))


def look(app: App, database: str | None, what: str) -> None:
    """Whether :func:`alone` would let us in, before anything else is looked at: a database may refuse connections meanwhile."""
    with alone(app, named(app, database), what):
        pass
