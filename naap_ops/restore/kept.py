"""The databases that restores have left behind: listed, swapped back, dropped by typed name. Only what bears our mark."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops import clock
from naap_ops.errors import Refused
from naap_ops.events import Events
from naap_ops.postgres.databases import drop, exists, properties, rename_swap
from naap_ops.postgres.session import maintenance
from naap_ops.restore import aside, gate, marks
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import target_lock
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, size_text

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_MARKED = """
select datname, shobj_description(oid, 'pg_database'),
  case when has_database_privilege(oid, 'CONNECT') then pg_database_size(oid) end
from pg_database where shobj_description(oid, 'pg_database') like '{%'
"""


@dataclass(frozen=True)
class Kept:
    """A database that was live once, or is ``ready`` to be put in place. ``role`` is ``before``, ``undone`` or ``ready``;
    ``backup`` what replaced it, or what it came from.

    ``at`` is when it stepped aside (RFC 3339); ``bytes`` None where its size may not be asked.
    """

    name: str
    of: str
    role: str
    at: str
    backup: str | None
    bytes: int | None


def kept(info: ConnInfo, database: str | None = None) -> list[Kept]:
    """What is kept of ``database``, or of all, newest first."""
    with server_errors(info, "looking for kept databases"), closing(maintenance(info)) as session:
        return _kept(session, database)


def _kept(session: Connection, database: str | None) -> list[Kept]:
    found = []
    for name, comment, size in session.execute(_MARKED).fetchall():
        mark = marks.read(comment)
        if mark and mark.role in (marks.BEFORE, marks.UNDONE, marks.READY) and database in (None, mark.of) and name != mark.of:
            found.append(Kept(name, mark.of, mark.role, mark.at, mark.backup, size))
    return sorted(found, key=lambda each: (each.at, each.name), reverse=True)


def undo(info: ConnInfo, database: str, options: RestoreOptions, events: Events, *, name: str | None = None) -> Outcome:
    """Swap the newest database that a restore of ``database`` has kept (or the kept one ``name``) back into place.

    What is live now is kept as ``<database>__undone_<time>``. Raises Refused when nothing is kept, and what a swap raises.
    """
    began = clock.monotonic()
    with server_errors(info, "undoing a restore"), target_lock(info, database) as session:
        chosen = _choose(session, database, name)
        original = marks.read(properties(session, chosen.name).comment)
        current = properties(session, database).comment if exists(session, database) else None
        previous = aside.free_name(session, database, marks.UNDONE) if exists(session, database) else None

        def told(connection: Connection) -> None:
            aside.comment_on(connection, database, original.comment if original else None)
            if previous is not None:
                aside.comment_on(connection, previous, Mark(marks.UNDONE, database, chosen.backup, current).text())

        events.emit("restore.step", name="swap", text=f"putting {chosen.name} back in place as {database}")
        downtime = rename_swap(
            info,
            live=database if previous else None,
            aside=chosen.name,
            before=previous or database,
            lock_timeout=options.lock_timeout,
            also=told,
        )
    return Outcome(
        database=database,
        previous=previous,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=round(downtime if previous else 0.0, 3),
        tables=0,
        rows=0,
        backup=chosen.backup,
    )


def plan_undo(info: ConnInfo, database: str, *, name: str | None = None) -> Plan:
    """What :func:`undo` would do."""
    from naap_ops.postgres.session import server_info

    with server_errors(info, "planning"), target_lock(info, database) as session:
        chosen = _choose(session, database, name)
        size = f", {size_text(chosen.bytes)}" if chosen.bytes is not None else ""
        lines = [f"rename {chosen.name!r}{size}, live until {chosen.at}, back to {database!r}"]
        live = gate.live(session, server_info(session), database)
        if live is not None:
            previous = aside.free_name(session, database, marks.UNDONE)
            lines.insert(
                0, f"rename the live database {database!r} to {previous!r}; what was written since {chosen.at} stays there"
            )
            lines.append(f"end the sessions of {database!r}: {', '.join(live.sessions) or 'none now'}")
        notes = list(live.notes) if live else []
        return Plan(database, lines + [f"note: {note}" for note in notes], notes)


def _choose(session: Connection, database: str, name: str | None) -> Kept:
    """The database to bring back. Raises Refused."""
    found = [each for each in _kept(session, database) if each.role != marks.READY]  # that one was never live
    wanted = [each for each in found if (each.name == name if name else each.role == marks.BEFORE)]
    if not wanted:
        there = ", ".join(each.name for each in found) or "none"
        if name is None and found:
            raise Refused(
                reason=f"the last restore of {database!r} has been undone already: nothing is left to undo",
                hint=f"What that put aside can be brought back by name: --kept NAME, with one of {there}.",
            )
        what = f"{name!r} is not kept by a restore" if name else "no restore has kept a database"
        raise Refused(reason=f"{what} of {database!r}: nothing to undo", hint=f"Kept of it: {there}.")
    return wanted[0]


def droppable(info: ConnInfo, name: str) -> Kept:
    """The kept database ``name``. Raises Refused for anything that is not a kept database."""
    with server_errors(info, "looking for kept databases"), closing(maintenance(info)) as session:
        return _droppable(session, name)


def drop_old(info: ConnInfo, name: str, typed: str) -> Kept:
    """Drop the kept database ``name``; ``typed`` is what the operator typed and must be that name exactly.

    Raises Refused for anything that is not a kept database, Busy while its database is being restored, PrivilegeMissing.
    """
    if typed != name:
        raise Refused(reason=f"{typed!r} was typed, not {name!r}: nothing is dropped")
    with server_errors(info, "dropping a kept database"):
        with closing(maintenance(info, avoid=(name,))) as session:
            chosen = _droppable(session, name)
        with target_lock(info, chosen.of) as session:
            _droppable(session, name)  # nobody has swapped it back meanwhile
            drop(session, name)
    return chosen


def _droppable(session: Connection, name: str) -> Kept:
    found = _kept(session, None)
    for each in found:
        if each.name == name:
            return each
    there = ", ".join(each.name for each in found) or "none"
    if not exists(session, name):
        raise Refused(
            reason=f"there is no database, schema or table {name!r} that a restore has kept: nothing is dropped",
            hint=f"`invoke restore.kept` lists what is kept. Databases: {there}.",
        )
    raise Refused(
        reason=f"{name!r} is not a database that a restore has kept: it bears no mark of one, and is not dropped",
        hint=f"Kept are: {there}.",
    )
