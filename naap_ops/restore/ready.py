"""A restore in two parts, perhaps by two processes: one loads a database beside the live one, the other puts it in place.

Between the two it bears the mark ``ready``, with the procedure it was loaded for: no other restore sweeps it away,
``restore.kept`` lists it and ``restore.drop-old`` drops it. After the second the old database's mark names that procedure too.
So how far it has come is asked of the server alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from naap_ops import clock
from naap_ops.errors import Refused
from naap_ops.postgres.databases import apply_properties, drop, exists, properties
from naap_ops.postgres.session import connect, maintenance
from naap_ops.restore import aside, kept, marks, whole
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import target_lock
from naap_ops.restore.marks import Mark
from naap_ops.restore.publishing import publish
from naap_ops.restore.source import not_as_promised

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.restore.outcome import Outcome, RestoreOptions
    from naap_ops.restore.source import Source

PROCEDURE = "procedure"
_OID = "oid"

_MARKED = """
select datname, oid::bigint, shobj_description(oid, 'pg_database') from pg_database
where shobj_description(oid, 'pg_database') like '{%'
"""


@dataclass(frozen=True)
class Loaded:
    """A database that is ready. ``seconds`` it took to load."""

    name: str
    oid: int
    tables: int
    rows: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Marked:
    """A database by its mark: ``name``, ``oid``; ``role`` of the mark, ``backup`` and ``data`` in it."""

    name: str
    oid: int
    role: str
    backup: str | None
    data: dict[str, Any]


def load(
    source: Source,
    info: ConnInfo,
    options: RestoreOptions,
    events: Events,
    *,
    procedure: str,
    settle: Callable[[Connection], None] | None = None,
) -> Loaded:
    """Load ``source`` beside the database ``info`` names, count it against what it promises, and leave it ready.

    ``settle`` puts right what must be right before anybody can see it; its session is in autocommit. Raises as a restore; then
    nothing is left. What a load that was killed has left is dropped first.
    """
    began = clock.monotonic()
    target = info.dbname or ""
    with server_errors(info, "restoring"), source, whole.prepared(source, info, target, options, replaces=True) as room:
        beside, tables, rows, notes = whole.load_aside(source, room, events)
        try:
            if missing := source.lacking(info.with_dbname(beside)):
                raise not_as_promised(source, [f"not in the loaded database: {each}" for each in missing])
            if settle is not None:
                with closing(connect(info, dbname=beside)) as connection:
                    settle(connection)
            mark = Mark(marks.READY, target, source.name, data={PROCEDURE: procedure})
            aside.comment_on(room.session, beside, mark.text())
        except BaseException:
            aside.discard(room.session, info, beside, events)
            raise
        oid = _oid(room.session, beside)
    seconds = round(clock.monotonic() - began, 3)
    return Loaded(beside, oid, tables, rows, seconds, (*room.notes, *notes))


def find(info: ConnInfo, procedure: str, role: str = marks.READY) -> Marked | None:
    """What ``procedure`` has left for the database of ``info``: the ready one, or with role ``before`` the one it replaced."""
    with server_errors(info, "looking for marks"), closing(maintenance(info, avoid=(info.dbname,))) as session:
        return _find(session, info.dbname or "", procedure, role)


def _find(session: Connection, target: str, procedure: str, role: str) -> Marked | None:
    for name, oid, comment in session.execute(_MARKED).fetchall():
        mark = marks.read(comment)
        if mark and mark.role == role and mark.of == target != name and mark.data.get(PROCEDURE) == procedure:
            return Marked(name, oid, role, mark.backup, mark.data)
    return None


def published(info: ConnInfo, procedure: str) -> Marked | None:
    """The old database, when ``procedure`` has put its own in place and that is what is live now; else None."""
    target = info.dbname or ""
    with server_errors(info, "looking for marks"), closing(maintenance(info, avoid=(target,))) as session:
        old = _find(session, target, procedure, marks.BEFORE)
        if old is None or not exists(session, target):
            return None
        return old if _oid(session, target) == old.data.get(_OID) else None


def put_in_place(info: ConnInfo, options: RestoreOptions, events: Events, *, procedure: str) -> tuple[Marked, float]:
    """Publish what ``procedure`` has ready. (The old database as it is kept, seconds of downtime.)

    Owner, rights, settings and comment are carried over once more, as of now. The live database, the ready one or both may
    refuse connections; afterwards neither does. Raises Refused where nothing is ready, and what a swap raises.
    """
    target = info.dbname or ""
    with server_errors(info, "putting it in place"), target_lock(info, target) as session:
        found = _find(session, target, procedure, marks.READY)
        if found is None:
            raise Refused(reason=f"no database of {procedure} is ready to take the place of {target!r}")
        live = properties(session, target)
        ready = Mark(marks.READY, target, found.backup, data=found.data)
        apply_properties(session, found.name, aside.without_comment(live, ready))
        previous, seconds = publish(
            session,
            info,
            target,
            found.name,
            backup=found.backup or "",
            carried=live,
            replaces=True,
            lock_timeout=options.lock_timeout,
            events=events,
            data={PROCEDURE: procedure, _OID: found.oid},
        )
        assert previous is not None
        old = _find(session, target, procedure, marks.BEFORE)
    assert old is not None
    return old, seconds


def take_back(info: ConnInfo, options: RestoreOptions, events: Events, *, procedure: str) -> Outcome | None:
    """Swap back what ``procedure`` has replaced; None where it has not, or not any more. Raises what a swap raises."""
    old = published(info, procedure)
    if old is None:
        return None
    return kept.undo(info, info.dbname or "", options, events, name=old.name)


def drop_ready(info: ConnInfo, procedure: str) -> str | None:
    """Drop what ``procedure`` has ready; its name. Raises Busy, PrivilegeMissing."""
    target = info.dbname or ""
    with server_errors(info, "dropping what was ready"), target_lock(info, target) as session:
        found = _find(session, target, procedure, marks.READY)
        if found is None:
            return None
        drop(session, found.name)
        return found.name


def _oid(session: Connection, name: str) -> int:
    row = session.execute("select oid::bigint from pg_database where datname = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])
