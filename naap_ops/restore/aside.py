"""The aside database: made, filled and checked beside the live one, and swept away when its maker has died.

It bears a mark from the moment after its creation. Killed between creation and mark it is empty and unmarked; that is why an
empty database of such a name is a leftover too, while nobody is making one (see :func:`naap_ops.restore.locking.making`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from naap_ops import clock
from naap_ops.backup.counting import counting, differences, in_parallel
from naap_ops.backup.manifest import TableFact
from naap_ops.errors import OpsError
from naap_ops.events import Events
from naap_ops.postgres.databases import create, derived_name, drop, exists
from naap_ops.postgres.properties import DatabaseProps
from naap_ops.postgres.session import connect
from naap_ops.restore import marks
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import making
from naap_ops.restore.marks import Mark
from naap_ops.restore.outcome import RestoreOptions
from naap_ops.restore.source import Source, not_as_promised

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_SUFFIX = re.compile(r"__restore_\d{8}T\d{6}Z$")

_DROPPABLE = """
select datname, shobj_description(oid, 'pg_database') from pg_database
where datname like '%\\_\\_restore\\_%' and not datistemplate and datallowconn and pg_has_role(datdba, 'USAGE')
"""

# Ordinary tables, materialised views, and partitioned tables, whose ANALYZE takes their partitions along.
_ANALYZED = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm', 'p') and not c.relispartition and c.relpersistence <> 't'
  and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
order by case when c.relkind = 'p' then 0 else -pg_table_size(c.oid) end
"""


def free_name(session: Connection, base: str, role: str) -> str:
    """A name as :func:`derived_name` makes it that no database has: its time is now or, if that is taken, a little later."""
    moment = clock.now()
    while exists(session, name := derived_name(base, role, moment)):
        moment += timedelta(seconds=1)
    return name


def comment_on(session: Connection, database: str, text: str | None) -> None:
    """Set a database's comment."""
    session.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(database), sql.Literal(text)))


def make(session: Connection, target: str, source: str, props: DatabaseProps) -> str:
    """Create the empty aside database for ``target``. Its name. Raises Refused, PrivilegeMissing, ConfigurationError."""
    name = free_name(session, target, "restore")
    with making(session):
        create(session, name, props)
        try:
            comment_on(session, name, Mark(marks.RESTORE, target, source).text())
        except BaseException:
            drop(session, name)
            raise
    return name


def leftovers(session: Connection, info: ConnInfo, target: str) -> list[str]:
    """Aside databases that dead restores of ``target`` have left. The caller holds the target's lock: their makers are dead."""
    base = _SUFFIX.sub("", derived_name(target, "restore", clock.now()))
    rows = session.execute(_DROPPABLE).fetchall()
    candidates = [(name, comment) for name, comment in rows if _SUFFIX.search(name) and _SUFFIX.sub("", name) == base]
    return [name for name, comment in candidates if _is_leftover(info, target, name, comment)]


def _is_leftover(info: ConnInfo, target: str, name: str, comment: str | None) -> bool:
    mark = marks.read(comment)
    if mark is None:
        return comment is None and _is_empty(info, name)
    return mark.role == marks.RESTORE and mark.of == target


def sweep(session: Connection, info: ConnInfo, target: str) -> list[str]:
    """Drop the leftovers. Their names."""
    with making(session):
        names = leftovers(session, info, target)
        for name in names:
            drop(session, name)
    return names


def _is_empty(info: ConnInfo, name: str) -> bool:
    """Whether nothing was ever put into the database: no relation, no schema, no large object of its own."""
    query = """
    select not exists (select from pg_class where oid >= 16384) and not exists (select from pg_namespace where oid >= 16384)
      and not exists (select from pg_largeobject_metadata)
    """
    with closing(connect(info, dbname=name)) as connection:
        row = connection.execute(query).fetchone()
    return row is not None and bool(row[0])


def fill(source: Source, info: ConnInfo, options: RestoreOptions, events: Events) -> tuple[int, int, list[str]]:
    """Load ``source`` into the aside database of ``info``, analyse, count: (tables, rows, notes). Raises what is wrong."""
    events.emit("restore.step", name="load", text="loading")

    def loaded(tables: int, size: int) -> None:
        events.emit("restore.progress", step="load", tables=tables, bytes=size)

    source.load(info, options, loaded)
    with server_errors(info, "checking what was loaded"):
        with closing(connect(info)) as connection:
            tables = list(source.tables(connection))
            analyzed = [(schema, name) for schema, name in connection.execute(_ANALYZED)]
        notes: list[str] = []
        counted = _check(info, tables, analyzed, options.jobs, events, notes)
    source.proven()
    wrong = differences(tables, counted)
    if wrong:
        raise not_as_promised(source, [str(each) for each in wrong])
    return len(tables), sum(rows or 0 for rows in counted.values()), sorted(notes)


def _check(
    info: ConnInfo, tables: list[TableFact], analyzed: list[tuple[str, str]], jobs: int, events: Events, notes: list[str]
) -> dict[str, int | None]:
    """Count and analyse, by ``jobs`` sessions, largest tables first."""
    events.emit("restore.step", name="check", text="counting rows and gathering statistics")
    counted: dict[str, int | None] = {}
    counts = counting(sorted(tables, key=lambda table: -(table.rows or 0)), counted)
    tasks = [*counts, *(_analyze(name, notes) for name in analyzed)]
    # row_security: an error instead of a count without the rows that policies hide.
    sessions = info.with_settings({"jit": "off", "row_security": "off"})
    in_parallel(sessions, tasks, jobs)
    events.emit("restore.progress", step="check", tables=len(tables))
    return counted


def _analyze(name: tuple[str, str], notes: list[str]) -> Callable[[Connection], None]:
    """Functions in statistics run with the rights of the table's owner, who may lack some: no reason to restore nothing."""

    def analyze(connection: Connection) -> None:
        try:
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier(*name)))
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            notes.append(f"no statistics of {'.'.join(name)}, whose ANALYZE fails: {error.diag.message_primary or error}")

    return analyze


def discard(session: Connection, info: ConnInfo, name: str, events: Events) -> None:
    """Drop an aside database after a failure, by a new session if need be. What cannot be dropped is left to the next sweep."""
    from naap_ops.postgres.session import maintenance

    try:
        with suppress(psycopg.OperationalError):  # the session is gone; perhaps only the session
            drop(session, name)
            return
        with closing(maintenance(info, avoid=(name, info.dbname))) as fresh:
            drop(fresh, name)
    except (OpsError, psycopg.Error) as error:
        events.emit("restore.step", name="leftover", text=f"{name} is left behind, the next restore drops it: {error}")


def without_comment(props: DatabaseProps, mark: Mark) -> DatabaseProps:
    """Properties as an aside database may have them while it can still be swept: with its mark, and never a template."""
    return replace(props, comment=mark.text(), is_template=False)


def make_template(session: Connection, name: str) -> None:
    """Mark a database as a template."""
    session.execute(sql.SQL("alter database {} is_template true").format(sql.Identifier(name)))


def open_to_all(session: Connection, name: str) -> None:
    """Have a database accept connections; nothing is done where it does."""
    row = session.execute("select datallowconn from pg_database where datname = %s", [name]).fetchone()
    if row is not None and not row[0]:
        session.execute(sql.SQL("alter database {} allow_connections true").format(sql.Identifier(name)))
