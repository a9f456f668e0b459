"""``migrate deploy`` without Node: the same checks in the same order, the same rows, the same way to send a script.

Each script is one simple query, so that the server makes one transaction of it unless it holds BEGIN and COMMIT, and so that a
single CREATE INDEX CONCURRENTLY works. ``search_path`` is exactly the URL's schema. Other than Prisma's engine, we say so when
a script ends inside of a transaction that it had begun: nothing of it is kept, and Prisma reports success.
Sources: commands/apply_migrations.rs; flavour/postgres/connector/native/mod.rs (``apply_migration_script``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from naap_ops import clock
from naap_ops.errors import ConfigurationError, OpsError
from naap_ops.postgres.session import connect, spell
from naap_ops.prisma import advisory, attempts, codes, tracking
from naap_ops.prisma.codes import FailedBefore, MigrateMisconfigured, MigrateRefused, MigrationFailed
from naap_ops.prisma.migrations import LOCK_FILE, POSTGRES, SCRIPT, Migration, migrations, provider
from naap_ops.prisma.project import Project
from naap_ops.prisma.simple_query import Failure, send
from naap_ops.prisma.tracking import Books, State

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_RESOLVE = "Read more about how to resolve migration issues in a production database: https://pris.ly/d/migrate-resolve"
_NAME_BYTES = 200
_LINES_BEFORE = 5


@dataclass(frozen=True)
class Applied:
    """One migration that was applied."""

    name: str
    seconds: float


class Beside(Protocol):
    """Something that is done in the very transaction of a migration. Its script holds no BEGIN or COMMIT of its own, then."""

    def wanted(self, migration: str) -> bool:
        """Whether there is anything to do beside this one."""

    def before(self, connection: Connection, migration: str) -> None:
        """Raises OpsError: then the migration is not begun, and has no row."""

    def after(self, connection: Connection, migration: str, attempt: str) -> None:
        """``attempt``: the id of its row. Raises psycopg.Error: then the migration has failed."""


@dataclass(frozen=True)
class Pending:
    """What a deploy would do now: make the tracking table or not, and apply these, in this order."""

    migrations: tuple[Migration, ...]
    creates_table: bool


def unapplied(folders: Sequence[Migration], books: Books) -> list[Migration]:
    """The folders that deploy would run: those without a row that is not rolled back."""
    return [each for each in folders if books.state(each.name) in (State.ABSENT, State.ROLLED_BACK)]


def look(connection: Connection, project: Project, schema: str, folders: Sequence[Migration] | None = None) -> Pending:
    """Every check of ``migrate deploy``; nothing is written. ``folders``: what :func:`migrations` gave, read now without it.

    Raises MigrateMisconfigured (P3015, P3019), MigrateRefused (P3005), FailedBefore (P3009), PrismaUnsupported.
    """
    _same_provider(project)
    tracking.refuse_contract(connection)
    there = schema in tracking.schemas(connection)
    if not there and (tables := attempts.foreign_tables(connection, schema)):
        raise MigrateRefused(
            code=codes.DATABASE_NOT_EMPTY,
            reason=f"the database schema {schema!r} is not empty, and has no {tracking.TABLE}: {', '.join(tables[:5])}"
            + (", ..." if len(tables) > 5 else ""),
            hint="A database that was there before its migrations: `invoke resolve --baseline`, or --applied NAME of each.",
        )
    books = tracking.read(connection, schema)
    refuse_failed(books)
    found = unapplied(project.in_order(migrations(project.migrations) if folders is None else folders), books)
    for each in found:
        _readable(each)
    return Pending(tuple(found), creates_table=not there)


def refuse_failed(books: Books) -> None:
    """Raise FailedBefore (P3009) where a migration is failed in the books."""
    failed = [row for row in books.rows if row.live and row.finished is None]
    if not failed:
        return
    told = [f"The `{row.name}` migration started at {_moment(row)} failed{_logs(row)}" for row in failed]
    names = tuple(dict.fromkeys(row.name for row in failed))
    raise FailedBefore(
        code=codes.FAILED_BEFORE,
        names=names,
        reason="\n".join([f"migrate found failed migrations in {books.schema!r}, new ones will not be applied", *told]),
        hint=(
            f"Undo it: `invoke rollback --migration {names[0]}`. Nothing of it took effect, or it was undone by hand:"
            f" `invoke resolve --rolled-back {names[0]}`. All of it took effect: `invoke resolve --applied {names[0]}`."
        ),
    )  # fmt: skip


def _moment(row: tracking.Row) -> str:
    return row.started.astimezone(clock.now().tzinfo).strftime("%Y-%m-%d %H:%M:%S.%f UTC")


def _logs(row: tracking.Row) -> str:
    logs = (row.logs or "").strip()
    return f" with the following logs:\n{logs}" if logs else ""


def _same_provider(project: Project) -> None:
    locked, wanted = provider(project.migrations), project.provider or "postgresql"
    if locked is not None and locked != wanted and not {locked, wanted} <= set(POSTGRES):
        raise MigrateMisconfigured(
            code=codes.OTHER_PROVIDER,
            reason=f"the datasource provider `{wanted}` does not match the one in {LOCK_FILE}, `{locked}`",
            hint="Read more: https://pris.ly/d/migrate-provider-switch",
        )


def _readable(migration: Migration) -> None:
    if migration.sha256 is None:
        raise MigrateMisconfigured(
            code=codes.SCRIPT_MISSING,
            reason=f"Could not find the migration file at {migration.path / SCRIPT}.",
            hint="Delete the directory or restore the migration file.",
        )
    if len(migration.name.encode()) > _NAME_BYTES:
        raise MigrateMisconfigured(
            code=codes.NAME_TOO_LONG,
            reason=f"The name of the migration is too long: {migration.name[:60]}...",
            hint=f"It must not be longer than {_NAME_BYTES} characters (bytes).",
        )
    _text(migration)


def _text(migration: Migration) -> str:
    """The script. Prisma would send what it cannot read as question marks: here it is refused."""
    path = migration.path / SCRIPT
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(detail=f"{path} is not UTF-8 (byte {error.start})", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(detail=f"{path} cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise ConfigurationError(detail=f"{path} holds a NUL character, at which the server would stop reading")
    return text


# --- doing it -------------------------------------------------------------------------------------------------------


def deploy(
    info: ConnInfo,
    project: Project,
    events: Events,
    *,
    schema: str,
    lock_seconds: float = 10.0,
    only: Sequence[str] | None = None,
    beside: Beside | None = None,
) -> list[Applied]:
    """Apply what is pending. ``only``: what the caller expects that to be; raises Refused before anything when it is another.
    ``beside``: what is done in the transactions of migrations.

    Raises what :func:`look` raises, Busy while somebody else migrates, and MigrationFailed (P3018): then its row says so, those
    before it are applied, those after it are not.
    """

    def session() -> Connection:
        return connect(info, application_name="naap_ops deploy")

    with closing(session()) as connection, advisory.migrate_lock(connection, lock_seconds):
        found = look(connection, project, schema)
        names = [each.name for each in found.migrations]
        if only is not None and names != list(only):
            raise MigrateRefused(
                code="pending",
                reason=f"what is pending has changed meanwhile: {', '.join(names) or 'nothing'}",
                hint="Run `invoke deploy` again.",
            )
        advisory.still_held(connection)
        if found.creates_table:
            attempts.create(connection, schema)
        done: list[Applied] = []
        for each in found.migrations:
            events.emit("deploy.step", name="apply", text=f"applying {each.name} in {schema}")
            began = clock.monotonic()
            try:
                _apply(connection, schema, each, session, beside)
            except MigrationFailed as failure:
                failure.fields["applied"] = [one.name for one in done]
                raise
            done.append(Applied(each.name, round(clock.monotonic() - began, 3)))
    return done


def _apply(
    connection: Connection, schema: str, migration: Migration, again: Callable[[], Connection], beside: Beside | None
) -> None:
    """One migration: its row, its script, its row again. ``again`` opens a session where this one is lost."""
    from psycopg import Error, sql

    text = _text(migration)
    _reset(connection)
    within = beside is not None and beside.wanted(migration.name)
    if beside is not None and within:
        id = _begin_within(connection, schema, migration, again, beside)
    else:
        id = attempts.begin(connection, schema, migration.name, migration.sha256 or "")
    connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
    failure = send(connection, text, within=within)
    if failure is None:
        try:
            _reset(connection)
            spell(connection)
            if beside is not None and within:
                beside.after(connection, migration.name, id)
                connection.execute("commit")
            attempts.finish(connection, schema, id)
        except Error as lost:
            if not connection.broken:
                connection.rollback()
            failure = Failure(f"all of it ran, but it could not be finished: {lost}", lost.sqlstate or "")
    if failure is None:
        return
    error = MigrationFailed(
        code=codes.FAILED,
        migration=migration.name,
        statement=failure.statement,
        line=failure.line(text),
        sqlstate=failure.sqlstate,
        database_error=failure.text,
        applied=[],
        where=_where(failure, text),
    )
    _log(connection, schema, id, logs(migration.name, failure, text), again)
    raise error


def _begin_within(
    connection: Connection, schema: str, migration: Migration, again: Callable[[], Connection], beside: Beside
) -> str:
    """Begin the transaction, and what is done in it before the script. The row is another session's: it stays in any case."""
    connection.execute("begin")
    try:
        beside.before(connection, migration.name)
        with closing(again()) as books:
            return attempts.begin(books, schema, migration.name, migration.sha256 or "")
    except OpsError:
        if not connection.broken:
            connection.rollback()
        raise


def _reset(connection: Connection) -> None:
    """What a script before has set is gone; timeouts are those that this user has, as Prisma's session has them."""
    connection.execute("reset role")
    connection.execute("reset all")


def _where(failure: Failure, text: str) -> str:
    line = failure.line(text)
    where = [*([f"statement {failure.statement}"] if failure.statement else []), *([f"line {line}"] if line else [])]
    return f" at {', '.join(where)}" if where else ""


def logs(name: str, failure: Failure, text: str) -> str:
    """What Prisma writes into ``logs``, but for terminal colours and the driver's own form of the error."""
    return (
        "A migration failed to apply. New migrations cannot be applied before the error is recovered from. "
        f"{_RESOLVE}\n\nMigration name: {name}\n\nDatabase error code: {failure.sqlstate or 'none'}\n\n"
        f"Database error:\n{failure.severity}: {failure.text}{_position(failure, text)}\n"
    )


def _position(failure: Failure, text: str) -> str:
    line = failure.line(text)
    if line is None:
        return ""
    numbered = list(enumerate(text.split("\n"), 1))[max(0, line - 1 - _LINES_BEFORE) : line]
    return "\n\nPosition:\n" + "\n".join(f"{number:>3} {content}".rstrip() for number, content in numbered)


def _log(connection: Connection, schema: str, id: str, text: str, again: Callable[[], Connection]) -> None:
    """Have the row say what went wrong, by another session where this one is broken. Without a server it says nothing."""
    from psycopg import Error

    try:
        _reset(connection)
        attempts.fail(connection, schema, id, text)
    except Error:
        with suppress(OpsError, Error), closing(again()) as fresh:
            attempts.fail(fresh, schema, id, text)
