"""``migrate resolve``: what the books say of a migration is put right by hand, and nothing but the books.

Applied: a finished row is added, rows of failed attempts are marked as rolled back. Rolled back: only the latter. Baselining is
the first for everything that is pending, for a database that had its tables before it had migrations.
Sources: commands/mark_migration_applied.rs, commands/mark_migration_rolled_back.rs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naap_ops.errors import MigrationNotFound, OpsError, OutOfStep, Refused, UsageError
from naap_ops.prisma import advisory, applier, attempts, codes, tracking
from naap_ops.prisma.codes import MigrateRefused, NotThere
from naap_ops.prisma.migrations import Migration, migrations
from naap_ops.prisma.project import Project
from naap_ops.prisma.reference import resolve as named
from naap_ops.prisma.tracking import Books, State

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection


@dataclass(frozen=True)
class Request:
    """One of the three is asked for, for the tracking tables of ``schemas``."""

    applied: Sequence[str] = ()
    rolled_back: str | None = None
    baseline: bool = False
    schemas: Sequence[str] = ()


@dataclass(frozen=True)
class Task:
    """What is left to do in one schema. ``skipped``: why there is nothing to do for a migration, by its name."""

    schema: str
    migrations: tuple[str, ...]
    creates_table: bool = False
    skipped: Mapping[str, OpsError] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What would be done, as of now. ``state`` is applied or rolled_back."""

    state: str
    tasks: tuple[Task, ...]
    folders: Mapping[str, Migration]
    lines: tuple[str, ...]


def plan(connection: Connection, project: Project, request: Request) -> Plan:
    """Look, touch nothing.

    Raises NotThere (P3011, P3017), MigrateRefused (P3008, P3012), FailedBefore (P3009, baselining only), MigrationAmbiguous,
    UsageError. Of several schemas those that need nothing are passed over, unless none needs anything.
    """
    tracking.refuse_contract(connection)
    folders = {each.name: each for each in project.in_order(migrations(project.migrations))}
    there = tracking.schemas(connection)
    books = {schema: tracking.read(connection, schema) for schema in request.schemas}
    state = "rolled_back" if request.rolled_back is not None else "applied"
    tasks = []
    for schema, each in books.items():
        wanted = _wanted(request, folders, list(books.values()), each, str(project.migrations))
        skipped = {name: error for name in wanted if (error := _refusal(state, name, folders, each)) is not None}
        left = tuple(name for name in wanted if name not in skipped)
        tasks.append(Task(schema, left, creates_table=schema not in there and bool(left), skipped=skipped))
    _any_left(request, tasks)
    return Plan(state, tuple(tasks), folders, tuple(_lines(state, tasks)))


def _wanted(
    request: Request, folders: Mapping[str, Migration], all_books: Sequence[Books], books: Books, where: str
) -> list[str]:
    """The whole names of what is meant, in Prisma's order."""
    if request.baseline:
        applier.refuse_failed(books)
        return [each.name for each in applier.unapplied(list(folders.values()), books)]
    if request.rolled_back is not None:
        return [_name(request.rolled_back, [], all_books, codes.NEVER_APPLIED, f"the books of {books.schema}")]
    names = {_name(ref, folders, all_books, codes.NO_FOLDER, where) for ref in request.applied}
    return [name for name in folders if name in names] + sorted(names - set(folders))


def _name(ref: str, known: Sequence[str] | Mapping[str, Migration], books: Sequence[Books], code: str, where: str) -> str:
    try:
        return named(ref, known, books, where)
    except MigrationNotFound as error:
        raise NotThere(code=code, ref=ref, folder=where, what=error.fields["what"]) from None


def _refusal(state: str, name: str, folders: Mapping[str, Migration], books: Books) -> OpsError | None:
    """What Prisma would say to it."""
    rows = books.of(name)
    if state == "applied":
        if (folder := folders.get(name)) is None or folder.sha256 is None:
            return NotThere(code=codes.NO_FOLDER, ref=name, folder="the migrations folder", what="others, or no migration.sql")
        if any(row.finished is not None for row in rows):
            return MigrateRefused(code=codes.ALREADY_APPLIED, reason=f"{name} is already recorded as applied in {books.schema}")
        return None
    if not rows:
        return NotThere(code=codes.NEVER_APPLIED, ref=name, folder=f"the books of {books.schema}", what="others, perhaps")
    if all(row.finished is not None for row in rows):
        reason = f"{name} cannot be marked as rolled back in {books.schema}: it is not in a failed state"
        return MigrateRefused(
            code=codes.NOT_FAILED, reason=reason, hint=f"To undo an applied one: `invoke rollback --migration {name}`."
        )
    if not any(row.live and row.finished is None for row in rows):
        return Refused(reason=f"{name} is marked as rolled back already in {books.schema}: nothing was done")
    return None


def _any_left(request: Request, tasks: Sequence[Task]) -> None:
    if any(task.migrations for task in tasks):
        several = len(tasks) > 1
        refused = [error for task in tasks for error in task.skipped.values()]
        if refused and not several:  # one table: all of it or nothing
            raise refused[0]
        return
    for task in tasks:
        for error in task.skipped.values():
            raise error
    if request.baseline:
        raise Refused(reason="nothing is pending: there is nothing to baseline")
    raise UsageError(detail="no schema has a tracking table to change")


def _lines(state: str, tasks: Sequence[Task]) -> list[str]:
    lines = [f"take Prisma's migrate lock ({advisory.KEY}), so that nobody deploys meanwhile"]
    for task in tasks:
        table = f"{task.schema}.{tracking.TABLE}"
        if task.creates_table:
            lines.append(f"create {table}")
        if state == "applied":
            lines += [f"{table}: add an applied row of {name}; it is not run" for name in task.migrations]
        else:
            lines += [f"{table}: mark the failed attempts of {name} as rolled back" for name in task.migrations]
        lines += [f"{table}: nothing to do: {error.text}" for error in task.skipped.values()]
    lines.append("the schema itself is not touched: what a migration did, or did not do, stays as it is")
    return lines


# --- doing it -------------------------------------------------------------------------------------------------------


def resolve(connection: Connection, project: Project, request: Request, lock_seconds: float) -> Plan:
    """Do it, each schema in a transaction of its own. ``connection`` must be in autocommit and reach the server itself.

    What was done. Raises what :func:`plan` raises, Busy while somebody migrates, PrivilegeMissing, Blocked.
    """
    with advisory.migrate_lock(connection, lock_seconds):
        found = plan(connection, project, request)
        advisory.still_held(connection)
        for task in found.tasks:
            if task.migrations:
                with connection.transaction():
                    _one(connection, found, task, lock_seconds)
        _verified(connection, found)
    return found


def _one(connection: Connection, found: Plan, task: Task, lock_seconds: float) -> None:
    if task.creates_table:
        attempts.create(connection, task.schema)
    for name in task.migrations:
        tracking.lock_rows(connection, task.schema, name, int(lock_seconds * 1000))
        if found.state == "applied":
            tracking.mark_applied(connection, task.schema, name, found.folders[name].sha256 or "")
        else:
            tracking.mark_failed_rolled_back(connection, task.schema, name)


def _verified(connection: Connection, found: Plan) -> None:
    """Read it again. Raises OutOfStep."""
    for task in found.tasks:
        books = tracking.read(connection, task.schema)
        for name in task.migrations:
            wanted = (State.APPLIED,) if found.state == "applied" else (State.ROLLED_BACK, State.APPLIED)
            if books.state(name) not in wanted:
                reason = f"{name} is not as it should be in {task.schema}: somebody works on it in spite of Prisma's lock"
                raise OutOfStep(reason=reason)
