"""`invoke drift`: the live schema against what its applied migrations say, with the SQL between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from naap_ops.tasks.command import Call, command
from naap_ops.tasks.progress import progress

if TYPE_CHECKING:
    from naap_ops.drifts import Found, Report


@command(
    without=("yes",),
    all_tenants="every tenant's schema against its own books (setting tenant_schemas)",
    all_schemas="also the schemas that neither the URL names nor a migration makes",
    sql="write the SQL of both directions: <SQL>.to-migrations.sql and <SQL>.to-database.sql",
    migrations="the folder of migrations (setting reverse.migrations; else the Prisma project's)",
    project="the folder in which `npx prisma` is run (setting prisma.root; else it is looked for)",
    shadow_server="where the migrations are replayed: auto, embedded, beside or url (setting reverse.shadow)",
)
def drift(
    call: Call,
    all_tenants: bool = False,
    all_schemas: bool = False,
    sql: str | None = None,
    migrations: str | None = None,
    project: str | None = None,
    shadow_server: str | None = None,
) -> dict[str, Any]:
    """
    Say how the live schema differs from what its applied migrations make, object by object, seen on a shadow.

    Exit code 23 when it does, or when it cannot be told. The live database is not touched. What Prisma's own check is blind
    to is seen as well: CHECK, partial indexes, views, functions, triggers, row security, comments, grants, extensions.

    Example: invoke drift --sql mend
    """
    from naap_ops import drifts
    from naap_ops.errors import OutOfStep

    call.override(prisma__root=project, reverse__shadow=shadow_server)
    asked = drifts.Asked(
        call.database, all_tenants, all_schemas, migrations, sql=sql is not None or (call.json and not all_tenants)
    )
    with progress(call):
        report = drifts.look(call.app, asked)
    written = _written(report, Path(sql)) if sql is not None else {}
    tell(call, report, written)
    call.exit_code = 0 if report.in_step else OutOfStep.exit_code
    return {**facts(report), "files": {name: [str(path) for path in paths] for name, paths in written.items()}}


def facts(report: Report) -> dict[str, Any]:
    """The JSON form: of a single schema its own facts; of several, what drifted in any of them, and each under ``schemas``."""
    each = [found.as_dict() for found in report.schemas]
    one = each[0] if len(each) == 1 else None
    return {
        "database": report.database,
        "folder": report.folder,
        "in_step": report.in_step,
        "state": state_of(report),
        "drift": drift_of(report),
        "reason": one["reason"] if one else "",
        "notes": one["notes"] if one else [],
        "to_migrations": one["to_migrations"] if one else None,
        "to_database": one["to_database"] if one else None,
        "schemas": each,
    }


def state_of(report: Report) -> str:
    """The worst of all schemas: ``unknown``, ``drift`` or ``none``."""
    states = [found.state for found in report.schemas]
    return next((state for state in ("unknown", "drift") if state in states), "none")


def drift_of(report: Report) -> list[dict[str, str]]:
    """Every object of every schema."""
    several = len(report.schemas) > 1
    return [
        {**({"schema": found.schema} if several else {}), **each.as_dict()} for found in report.schemas for each in found.drift
    ]


def tell(call: Call, report: Report, written: dict[str, list[Path]]) -> None:
    """For people: one line per object."""
    several = len(report.schemas) > 1
    for found in report.schemas:
        head = f"{found.schema}: " if several else ""
        if found.state == "none":
            call.say(f"{head}no drift: the schema is what its applied migrations make")
        elif found.state == "unknown":
            call.insist(f"{head}drift is unknown: {found.reason}")
        for each in found.drift:
            call.insist(f"{head}{each}")
        for note in found.notes:
            call.say(f"{head}note: {note}")
        _tell_ways(call, found, written.get(found.schema, []))
    if any(found.state == "drift" for found in report.schemas) and not written and not call.json:
        call.say("The SQL that mends it, in either direction: invoke drift --sql PREFIX")


def _tell_ways(call: Call, found: Found, paths: list[Path]) -> None:
    if found.ways is None:
        return
    texts = ("changes the database to what the migrations say", "what a new migration would have to hold")
    for path, what, way in zip(paths, texts, (found.ways.to_migrations, found.ways.to_database), strict=False):
        call.say(f"{path}: {what}: {way.status}" + (f": {way.reason}" if way.reason else ""))
        for loss in way.losses:
            call.say(f"  loses {loss}")


def _written(report: Report, prefix: Path) -> dict[str, list[Path]]:
    """Write what was made, by schema. Raises StorageError."""
    from naap_ops.errors import StorageError
    from naap_ops.files import write_durably

    several, written = len(report.schemas) > 1, {}
    for found in report.schemas:
        if found.ways is None:
            continue
        stem = f"{prefix.name}.{found.schema}" if several else prefix.name
        ways = {"to-migrations": found.ways.to_migrations, "to-database": found.ways.to_database}
        written[found.schema] = [prefix.with_name(f"{stem}.{direction}.sql") for direction in ways]
        for path, way in zip(written[found.schema], ways.values(), strict=True):
            try:
                write_durably(path, way.text.encode())
            except OSError as error:
                raise StorageError(url=path, reason=error.strerror, hint="Is the folder there and writable?") from None
    return written
