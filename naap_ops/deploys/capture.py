"""Rows that migrations are about to destroy, kept in their own transactions: what that would take, and doing it.

Only the built-in deploy shares its transaction, and only a script that is one transaction from end to end can be shared. What
is not captured comes back from the backup, as it was when that was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from naap_ops.errors import Blocked, NoSpace, OpsError, PrivilegeMissing, Refused
from naap_ops.postgres.session import connect
from naap_ops.restore.blockers import BlockerWatch
from naap_ops.restore.outcome import size_text
from naap_ops.reverse.images import store, taking
from naap_ops.reverse.images.model import Image, Keep, images_of
from naap_ops.reverse.script import Script
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

DATA: Final = ("rows", "values", "residue")
"""Kinds of losses that images can make up for."""
_MEGABYTE: Final = 1024 * 1024
_ROW_BYTES: Final = 32  # a row's own header and pointer
_VALUE_BYTES: Final = 32  # of a column that no statistics know
_SIZE: Final = """
select greatest(c.reltuples, 0)::float8, c.reltuples < 0, pg_catalog.pg_table_size(c.oid)::float8,
  (select coalesce(sum(coalesce(s.avg_width, %(unknown)s)), 0)::float8 from unnest(%(columns)s::name[]) w (name)
   left join pg_catalog.pg_stats s
     on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = w.name and not s.inherited)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relname = %(name)s
"""


@dataclass(frozen=True)
class Wanted:
    """What one migration would have kept in ``schema``. ``alone``: its script is one transaction, which can be shared."""

    migration: str
    schema: str
    keeps: tuple[Keep, ...]
    alone: bool
    cannot: tuple[str, ...] = ()

    def moved(self, schema: str) -> Wanted:
        """The same in another tenant's schema."""
        keeps = tuple(keep.moved(self.schema, schema) for keep in self.keeps)
        return replace(self, schema=schema, keeps=keeps)


@dataclass(frozen=True)
class Estimate:
    """Roughly what keeping a table takes, as the server's statistics have it. ``rows`` None: nobody has counted them."""

    migration: str
    table: str
    rows: int | None
    bytes: int

    def __str__(self) -> str:
        rows = f"about {count_of(self.rows, 'row')}" if self.rows is not None else "rows"
        return f"{self.migration}: keeps {rows} of {self.table}, about {size_text(self.bytes)}"


def one_transaction(script: Script) -> bool:
    """All of it is one transaction, that of whoever runs it."""
    return all(each.transactional for each in script.segments) and all(each.control is None for each in script.statements)


def estimates(connection: Connection, wanted: Iterable[Wanted]) -> list[Estimate]:
    """What is there now; of tables that an earlier one of them makes nothing is known, and nothing said."""
    found = []
    for each in wanted:
        for keep in each.keeps:
            columns = [column.name for column in (*keep.key, *(() if keep.queried else keep.columns))]
            schema, name = keep.relation
            facts = {"unknown": _VALUE_BYTES, "columns": columns, "schema": schema, "name": name}
            row = connection.execute(_SIZE, facts).fetchone()
            if row is not None:
                rows, unknown, size, width = row
                total = size if unknown else min(rows * (width + _ROW_BYTES), 2 * size + _MEGABYTE)
                found.append(Estimate(each.migration, f"{schema}.{name}", None if unknown else int(rows), int(total)))
    return found


def reasons(app: App, wanted: Iterable[Wanted]) -> list[str]:
    """Why nothing, or not everything, is captured, in sentences."""
    lost = [each for each in wanted if each.keeps or each.cannot]
    if not lost:
        return []
    if app.loaded.settings.deploy.command and any(each.keeps for each in lost):
        names = ", ".join(each.migration for each in lost if each.keeps)
        return [f"no rows are captured of {names}: deploy.command has a transaction of its own; the backup has them"]
    found = []
    for each in lost:
        if each.keeps and not each.alone:
            found.append(f"no rows are captured of {each.migration}: it is not one transaction; the backup has them")
        found += [f"{each.migration}: {reason}" for reason in each.cannot]
    return found


def foreseen(app: App, losses: Iterable[Mapping[str, Any]], *, captured: bool, backup: bool) -> list[dict[str, Any]]:
    """The losses of a reverse; of those that an image can bring back, ``source`` says where that will come from, as things are:
    what is captured, the ``backup`` before it, or nowhere. ``imaged``: a trial has shown that images make up for it."""
    rows = backup and app.loaded.settings.backup.format != "plain"
    source = "capture" if captured else "backup" if rows else "none"

    def told(imaged: bool = False, **loss: Any) -> dict[str, Any]:
        since = loss["since"] and not (captured and imaged)
        return {**loss, "source": source} if loss["source"] == "none" and not since and loss["loss"] in DATA else loss

    return [told(**each) for each in losses]


def within_ceiling(app: App, found: Sequence[Estimate], *, asked_for: bool) -> None:
    """Raise Refused where keeping takes more than the setting allows, unless it is asked for."""
    total, ceiling = sum(each.bytes for each in found), app.loaded.settings.capture.ceiling * _MEGABYTE
    if total > ceiling and not asked_for:
        raise Refused(
            reason="; ".join(map(str, found)) + f": more than capture.ceiling, {size_text(ceiling)}. Nothing was deployed",
            hint="--capture keeps them all the same, --no-capture does not; then the backup has them.",
        )


def able(app: App, wanted: Iterable[Wanted]) -> list[Wanted]:
    """Those of which rows can be captured."""
    return [each for each in wanted if each.keeps and each.alone and not app.loaded.settings.deploy.command]


def prepare(info: ConnInfo) -> str:
    """Have the register be there, and what has expired be gone. Why nothing can be captured, '' when it can."""
    from psycopg import errors

    with connect(info, application_name="naap_ops deploy") as connection:
        try:
            store.prepare(connection)
            store.prune(connection)
        except errors.InsufficientPrivilege as error:
            return f"no rows are captured: {error.diag.message_primary}; the backup has them"
    return ""


# --- doing it -------------------------------------------------------------------------------------------------------


@dataclass
class Capturing:
    """Takes the images of migrations in their transactions; ``taken``: those of the migrations that were committed so far.

    ``lock_seconds``: how long it waits for writers to end.
    """

    info: ConnInfo
    schema: str
    migrations: Mapping[str, Wanted]
    lock_seconds: float
    lasting: timedelta
    taken: dict[str, tuple[Image, ...]] = field(default_factory=dict)
    begun: tuple[Image, ...] = ()

    def wanted(self, migration: str) -> bool:
        return migration in self.migrations

    def before(self, connection: Connection, migration: str) -> None:
        """Raises Blocked, PrivilegeMissing, NoSpace, Refused."""
        import psycopg

        one = self.migrations[migration]
        with BlockerWatch(self.info, connection.info.backend_pid, interval=0.3) as watch:
            try:
                connection.execute(f"set local lock_timeout = '{self.lock_seconds * 1000:.0f}ms'".encode())
                self.begun = taking.before(connection, images_of(migration, one.keeps), lock=True)
                connection.execute(b"reset lock_timeout")
            except psycopg.Error as error:
                raise self._explained(connection, error, migration, watch.seen) from error

    def after(self, connection: Connection, migration: str, attempt: str) -> None:
        """What is deferred runs now, while its rows can still be seen."""
        connection.execute(b"set constraints all immediate")
        images = taking.after(connection, self.begun)
        facts: dict[str, Any] = {"migration": migration, "schema": self.schema, "attempt": attempt, "lasting": self.lasting}
        store.register(connection, images, **facts)
        self.taken[migration] = images

    def _explained(self, connection: Connection, error: Any, migration: str, seen: Sequence[str]) -> OpsError:
        from psycopg import errors

        message = str(error.diag.message_primary or error)
        without = "--no-capture deploys without; the backup then has the rows."
        if isinstance(error, errors.LockNotAvailable):
            what = f"keeping the rows that {migration} destroys, after {self.lock_seconds:g} s,"
            hint = f"End the session in the way, wait longer (setting capture.lock_timeout), or: {without}"
            return Blocked(what=what, blockers="; ".join(seen) or message, hint=hint)
        if isinstance(error, errors.InsufficientPrivilege):
            return PrivilegeMissing(user=connection.info.user, action=f"keep rows for {migration}: {message}", hint=without)
        if isinstance(error, errors.DiskFull):
            return NoSpace(where="the database server", reason=message)
        return Refused(reason=f"rows that {migration} destroys cannot be kept: {message}", hint=f"Nothing of it ran. {without}")
