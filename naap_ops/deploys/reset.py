"""``reset``: the database made anew and empty, behind a backup, the old one kept; then the project's own sync and seed.

The new database is made aside, with encoding, locale, owner, rights and settings of the live one, its schemas with owners and
grants, and its extensions; it takes the live one's place by rename, as a restore does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from naap_ops import clock, exclusion, restores
from naap_ops.deploys.ways_back import back_up, fresh
from naap_ops.errors import CommandFailed, ConfigurationError, DatabaseMissing, WorkInterrupted
from naap_ops.exclusion import INSIDE
from naap_ops.postgres.databases import apply_properties, exists, properties
from naap_ops.postgres.session import connect, server_info
from naap_ops.postgres.url import to_url
from naap_ops.procedure import command
from naap_ops.restore import aside, gate, marks
from naap_ops.restore.failures import server_errors
from naap_ops.restore.locking import target_lock
from naap_ops.restore.marks import Mark
from naap_ops.restore.publishing import publish

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.places import Target
    from naap_ops.postgres.session import Connection

# Statements that make the same schemas and extensions in an empty database; `public` is there already.
_SCHEMAS: Final = """
select format('create schema if not exists %1$I; alter schema %1$I owner to %2$I', nspname, pg_get_userbyid(nspowner))
from pg_catalog.pg_namespace n where nspname !~ '^pg_' and nspname not in ('information_schema', 'naap_ops')
  and not exists (select from pg_catalog.pg_depend d
    where d.classid = 'pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')
order by nspname
"""
_GRANTS: Final = """
select format('grant %s on schema %I to %s%s', a.privilege_type, n.nspname,
    case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
    case when a.is_grantable then ' with grant option' else '' end)
from pg_catalog.pg_namespace n, aclexplode(n.nspacl) a
where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'naap_ops') and a.grantee <> n.nspowner
order by n.nspname
"""
_EXTENSIONS: Final = """
select format('create extension if not exists %I with schema %I cascade', extname, nspname)
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where extname <> 'plpgsql' order by e.oid
"""


@dataclass(frozen=True)
class Outcome:
    """``previous``: the old database's name now. ``ran``: the commands, with their seconds."""

    database: str
    backup: str
    previous: str
    schemas: list[str]
    extensions: list[str]
    seconds: float
    downtime_seconds: float
    ran: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(app: App, target: Target, backup: str | None) -> list[str]:
    """What would be done. Raises what would keep it from being done, as far as that is known before."""
    name = target.info.dbname or ""
    for words in _commands(app):
        command.present(words, _where(app))
    saved = f"backup {fresh(app, target, backup).id}" if backup else "a backup taken now (label pre_reset), read to its end"
    with connect(target.info) as connection:
        schemas, extensions = _names(connection)
    lines = [f"behind {saved}:", f"make {name!r} anew and empty; the old one is kept beside it"]
    lines += [f"schemas, with owners and grants: {', '.join(schemas) or 'none'}"]
    lines += [f"extensions: {', '.join(extensions)}"] if extensions else []
    lines += [f"run {' '.join(words)}" for words in _commands(app)]
    lines += [] if _commands(app) else ["note: no sync and no seed is configured ([reset] sync, seed): it stays empty"]
    return [*lines, "back: `invoke restore.undo`, or the backup"]


def reset(app: App, target: Target, backup: str | None, tell: Callable[[str], None]) -> Outcome:
    """Do it. Raises what a backup raises, Busy, Blocked, PrivilegeMissing, Refused; CommandFailed when sync or seed fails."""
    began = clock.monotonic()
    with exclusion.alone(app, target.info, "reset", needed=True):
        saved = fresh(app, target, backup) if backup else back_up(app, target, "pre_reset")
        previous, downtime, schemas, extensions, notes = _anew(app, target, saved.id)
        try:
            ran = list(_run(app, target, saved.id, tell))
        except KeyboardInterrupt:
            raise WorkInterrupted(reason="the database is new, and sync or seed was ended", hint=_back(saved.id)) from None
    seconds = round(clock.monotonic() - began, 3)
    return Outcome(target.info.dbname or "", saved.id, previous, schemas, extensions, seconds, round(downtime, 3), ran, notes)


def _names(connection: Connection) -> tuple[list[str], list[str]]:
    schemas = connection.execute(
        "select nspname from pg_catalog.pg_namespace"
        " where nspname !~ '^pg_' and nspname not in ('information_schema', 'naap_ops') order by 1"
    ).fetchall()
    extensions = connection.execute(
        "select extname from pg_catalog.pg_extension where extname <> 'plpgsql' order by 1"
    ).fetchall()
    return [name for (name,) in schemas], [name for (name,) in extensions]


def _anew(app: App, target: Target, backup: str) -> tuple[str, float, list[str], list[str], list[str]]:
    info, name = target.info, target.info.dbname or ""
    with connect(info) as connection:
        statements = [one for query in (_SCHEMAS, _EXTENSIONS, _GRANTS) for (one,) in connection.execute(query.encode())]
        schemas, extensions = _names(connection)
    options = restores.options(app)
    with server_errors(info, "making it anew"), target_lock(info, name) as session:
        gate.may_create(server_info(session))
        if not exists(session, name):
            raise DatabaseMissing(database=name, address=info.address)
        aside.sweep(session, info, name)
        was = properties(session, name)
        beside = aside.make(session, name, backup, was)
        try:
            with closing(connect(info, dbname=beside)) as connection:
                for statement in statements:
                    connection.execute(statement.encode())
            notes = apply_properties(session, beside, aside.without_comment(was, Mark(marks.RESTORE, name, backup)))
            previous, downtime = publish(
                session, info, name, beside, backup=backup, carried=was, replaces=True,
                lock_timeout=options.lock_timeout, events=app.events,
            )  # fmt: skip
        except BaseException:
            aside.discard(session, info, beside, app.events)
            raise
    assert previous is not None
    return previous, downtime, schemas, extensions, notes


def _commands(app: App) -> list[list[str]]:
    return [words for words in (app.loaded.settings.reset.sync, app.loaded.settings.reset.seed) if words]


def _where(app: App) -> Path:
    """The project's folder, or where there is none the current one."""
    from naap_ops.errors import PrismaProjectNotFound

    try:
        return app.project().root
    except (PrismaProjectNotFound, ConfigurationError):
        return app.loaded.cwd


def _run(app: App, target: Target, backup: str, tell: Callable[[str], None]) -> Iterator[dict[str, object]]:
    """Sync, then seed, in the project's folder, or where there is none in the current one."""
    where = _where(app)
    url = to_url(target.info)
    env = {"DATABASE_URL": url, "DIRECT_URL": url, INSIDE: target.info.dbname or ""}
    for words in _commands(app):
        app.events.emit("reset.step", name="command", text=f"running {' '.join(words)}")
        patience = app.loaded.settings.deploy.timeout.total_seconds()
        done = command.run(words, cwd=where, env=env, timeout=patience, tell=tell)
        if done.status != 0 or done.late:
            raise _failure(words, done, backup)
        yield {"command": words, "seconds": done.seconds}


def _failure(words: Sequence[str], done: command.Finished, backup: str) -> CommandFailed:
    import shlex

    return CommandFailed(
        tool=words[0],
        status=done.status,
        stderr="it was ended, as it took too long (deploy.timeout)" if done.late else done.tail or "(it said nothing)",
        argv=shlex.join(words),
        hint=_back(backup),
    )


def _back(backup: str) -> str:
    back = f"`invoke restore.undo`, or `invoke restore --backup {backup} --swap`"
    return f"The database is new and perhaps half-filled. Back: {back}."
