"""A whole database restored: into a new one, or in place of a live one. DESIGN.md, section 4, says why in this order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from naap_ops import clock
from naap_ops.backup.repository import Backup
from naap_ops.errors import Refused, UsageError
from naap_ops.events import Events
from naap_ops.postgres.databases import NAME_BYTES, DatabaseProps, apply_properties, exists, properties
from naap_ops.postgres.session import ServerInfo, server_info
from naap_ops.restore import aside, gate, marks
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import target_lock
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import Outcome, Plan, RestoreOptions, size_text
from naap_ops.restore.publishing import publish
from naap_ops.restore.source import BackupSource, Source

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset


def restore_into(backup: Backup, info: ConnInfo, name: str, options: RestoreOptions, tools: Toolset, events: Events) -> Outcome:
    """Restore into the new database ``name``. It appears when it is whole.

    Raises Refused when it exists or the server cannot hold it, Busy, PrivilegeMissing, BackupDamaged, CommandFailed, NoSpace.
    """
    return into(BackupSource(backup, tools), info, name, options, events)


def plan_into(backup: Backup, info: ConnInfo, name: str, options: RestoreOptions, tools: Toolset) -> Plan:
    """What :func:`restore_into` would do."""
    return plan(BackupSource(backup, tools), info, name, options, swap=False)


def restore_swap(backup: Backup, info: ConnInfo, options: RestoreOptions, tools: Toolset, events: Events) -> Outcome:
    """Restore beside the database ``info`` names and put it in that one's place; the old one is kept.

    Raises as :func:`restore_into`, and Blocked when sessions of the live database do not end. Until the swap nothing of the
    live database is touched; if anything fails, it stays as it is.
    """
    return swap(BackupSource(backup, tools), info, options, events)


def plan_swap(backup: Backup, info: ConnInfo, options: RestoreOptions, tools: Toolset) -> Plan:
    """What :func:`restore_swap` would do."""
    return plan(BackupSource(backup, tools), info, info.dbname or "", options, swap=True)


# --- for any source -------------------------------------------------------------------------------------------------


def into(source: Source, info: ConnInfo, name: str, options: RestoreOptions, events: Events) -> Outcome:
    """See :func:`restore_into`."""
    began = clock.monotonic()
    with server_errors(info, "restoring"), source, prepared(source, info, name, options, replaces=False) as ready:
        return _restore(source, ready, events, began)


def swap(source: Source, info: ConnInfo, options: RestoreOptions, events: Events) -> Outcome:
    """See :func:`restore_swap`."""
    began = clock.monotonic()
    target = info.dbname or ""
    with server_errors(info, "restoring"), source, prepared(source, info, target, options, replaces=True) as ready:
        return _restore(source, ready, events, began)


def plan(source: Source, info: ConnInfo, name: str, options: RestoreOptions, *, swap: bool) -> Plan:
    """The same code up to the first write."""
    with server_errors(info, "planning"), source, prepared(source, info, name, options, replaces=swap) as ready:
        lines = [f"restore {source.text}"]
        lines += [f"drop {each}, left by a restore that died" for each in aside.leftovers(ready.session, info, name)]
        aside_name = aside.free_name(ready.session, name, "restore")
        lines.append(f"load it into the new database {aside_name!r}, count every table, gather statistics")
        if ready.live is None:
            lines.append(f"rename that to {name!r}, which does not exist yet")
        else:
            size = f", {size_text(ready.live.bytes)}" if ready.live.bytes is not None else ""
            kept = aside.free_name(ready.session, name, "before")
            ended = ", ".join(ready.live.sessions) or "none now"
            lines.append(f"rename the live database {name!r}{size} to {kept!r} and the new one to {name!r}, at one instant")
            lines.append(f"end the sessions of {name!r}: {ended}")
            lines.append("carry over owner, rights, connection limit, settings and comment of the live database")
        return Plan(name, lines + [f"note: {note}" for note in ready.notes], ready.notes)


@dataclass(frozen=True)
class Prepared:
    """Past the gate, holding the lock; ``creation`` is what the aside is made with, ``carried`` what it is given in the end."""

    session: Connection
    server: ServerInfo
    info: ConnInfo
    target: str
    options: RestoreOptions
    live: gate.Live | None
    creation: DatabaseProps
    carried: DatabaseProps | None
    notes: list[str]


@contextmanager
def prepared(source: Source, info: ConnInfo, name: str, options: RestoreOptions, *, replaces: bool) -> Iterator[Prepared]:
    """The gate: everything that can be known before anything is written."""
    if len(name.encode()) > NAME_BYTES:  # the server would cut it, and mean another database
        raise UsageError(detail=f"{name!r} has {len(name.encode())} bytes; a name has at most {NAME_BYTES} bytes")
    with target_lock(info, name) as session:
        server = server_info(session)
        if not replaces and exists(session, name):
            raise Refused(
                reason=f"database {name!r} exists already: a restore never writes into a database that is there",
                hint="Give another name, or --swap to put the restored database in its place.",
            )
        gate.may_create(server)
        live = gate.live(session, server, name) if replaces else None
        notes = source.gate(session, server, options, replaces=live is not None)
        was = properties(session, name) if live is not None else None
        creation = _creation(session, source, was, options)
        carried = was or _recorded(source, server, options)
        yield Prepared(session, server, info, name, options, live, creation, carried, notes + list(live.notes if live else []))


def _creation(session: Connection, source: Source, was: DatabaseProps | None, options: RestoreOptions) -> DatabaseProps:
    """Encoding and locale as in the backup, else as in the live database, else the server's; the live database's tablespace."""
    default = properties(session, "template0")
    chosen = source.props or was or default
    if options.locale_of_server:
        chosen = replace(default, encoding=chosen.encoding)
    return replace(chosen, tablespace=was.tablespace if was else "pg_default")


def _recorded(source: Source, server: ServerInfo, options: RestoreOptions) -> DatabaseProps | None:
    """What the backup knows of its database, as far as it is wanted."""
    if source.props is None:
        return None
    owner = source.props.owner if options.owner else server.user
    return replace(source.props, owner=owner, acl=source.props.acl if options.privileges else None, is_template=False)


def load_aside(source: Source, ready: Prepared, events: Events) -> tuple[str, int, int, list[str]]:
    """Load it beside, checked, with the properties it is to have: (name, tables, rows, notes). It is marked as a restore's."""
    session, info, target = ready.session, ready.info, ready.target
    for name in aside.sweep(session, info, target):
        events.emit("restore.step", name="sweep", text=f"dropped {name}, which a restore that died had left")
    beside = aside.make(session, target, source.name, ready.creation)
    try:
        tables, rows, gaps = aside.fill(source, info.with_dbname(beside), ready.options, events)
        return beside, tables, rows, gaps + _carry_over(ready, source, beside)
    except BaseException:
        aside.discard(session, info, beside, events)
        raise


def _restore(source: Source, ready: Prepared, events: Events, began: float) -> Outcome:
    beside, tables, rows, notes = load_aside(source, ready, events)
    try:
        events.emit("restore.step", name="swap", text=f"putting it in place as {ready.target}")
        previous, downtime = publish(
            ready.session,
            ready.info,
            ready.target,
            beside,
            backup=source.name,
            carried=ready.carried,
            replaces=ready.live is not None,
            lock_timeout=ready.options.lock_timeout,
            events=events,
        )
    except BaseException:
        aside.discard(ready.session, ready.info, beside, events)
        raise
    return Outcome(
        database=ready.target,
        previous=previous,
        seconds=round(clock.monotonic() - began, 3),
        downtime_seconds=round(downtime, 3),
        tables=tables,
        rows=rows,
        backup=source.name,
        notes=ready.notes + notes,
    )


def _carry_over(ready: Prepared, source: Source, beside: str) -> list[str]:
    """Give the aside its properties, but for those that would hide it from a sweep. What could not be carried over."""
    if ready.carried is None:
        return []
    mark = Mark(marks.RESTORE, ready.target, source.name)
    return apply_properties(ready.session, beside, aside.without_comment(ready.carried, mark))
