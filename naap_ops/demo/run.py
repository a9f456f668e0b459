"""The demonstration's course: sample, backup, destructive migration, restore by swap, and the proof of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from naap_ops import clock, restores
from naap_ops.app import App
from naap_ops.background import Background
from naap_ops.errors import OpsError, Refused
from naap_ops.events import Events
from naap_ops.files import failure
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.digest import Digest, digests
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import server_bindir
from naap_ops.postgres.url import to_url
from naap_ops.wording import count_of

DATABASE = "naap"
_MARK = "naap_ops-demo"
Say = Callable[[str], None]


def run(folder: Path, major: int, say: Say) -> dict[str, Any]:
    """Run it in ``folder``, which afterwards holds the backup. Raises Refused when the folder is somebody else's."""
    folder = folder.absolute()
    _own(folder)
    began = clock.monotonic()
    with ScratchServer(server_bindir(major), folder / "server") as server:
        say(f"PostgreSQL {major} embedded, started in {clock.monotonic() - began:.1f} s")
        outcome = _course(server.info, folder, say)
    shutil.rmtree(folder / "server", ignore_errors=True)
    seconds = round(clock.monotonic() - began, 1)
    say(
        f"\nAll of it took {seconds} s. Nothing runs any more; the backup is in {outcome['path']}\n"
        "RESTORE.md there says how to restore it without this toolkit."
    )
    return {**outcome, "seconds": seconds}


def _own(folder: Path) -> None:
    """Make the folder ours, empty. One without our mark is not touched."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise Refused(reason=f"{folder} is not empty and not from an earlier demonstration", hint="Give another --folder.")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise failure(folder, error, "Change into a folder that is yours, or give another --folder.") from None


def _course(server: ConnInfo, folder: Path, say: Say) -> dict[str, Any]:
    with connect(server) as connection:
        connection.execute(f"create database {DATABASE}")
    info = server.with_dbname(DATABASE)
    _execute(info, "sample.sql")
    before = _digests(info)
    schemas = {name.split(".")[0] for name in before}
    rows = count_of(sum(d.rows for d in before.values()), "row")
    say(f"sample: {rows} in {count_of(len(before), 'table')} of {count_of(len(schemas), 'schema')}")

    flags = {"repository": str(folder / "backups"), "database_url": to_url(info)}
    app = App.load(flags, settings_file=None, events=Events())
    target = app.target(None)
    nothing: dict[str, list[str]] = {"schemas": [], "tenants": [], "plugins": [], "tables": [], "exclude_table_data": []}
    backup = app.back_up(app.request(target.alias, nothing, kind="full", label="pre_migration"), target)
    manifest = backup.sound
    say(
        f"backup {backup.id}: {count_of(manifest.rows, 'row')}, {count_of(manifest.bytes, 'byte')} "
        f"in {manifest.seconds:.1f} s, verified: {backup.grade}"
    )

    _execute(info, "migration.sql")
    after = _digests(info)
    say("migration 20261121090000_cleanup applied: a column, a table and a view dropped, rows deleted and rewritten\n")

    with _Client(info) as client:
        restored = restores.restore(app, backup, app.target(None), restores.Aim("swap"), restores.options(app))
    back = _digests(info)
    _table(before, after, back, say)
    same = before == back
    proved = sum(digest == back.get(name) for name, digest in before.items())
    verdict = "PROVED" if same else "NOT THE SAME"
    say(f"\n{verdict}: {proved} of {count_of(len(before), 'table')} have the rows and the digest of before.")
    say(f"restore {restored.seconds:.1f} s, downtime {restored.downtime_seconds:.2f} s")
    say(f"(a client reconnecting all the while waited {client.longest:.2f} s at most);")
    say(f"the damaged database was kept as {restored.previous}, which `invoke restore.undo` would swap back.")
    if not same:
        raise OpsError(detail="the restored database is not the one that was backed up")
    return {
        "database": DATABASE,
        "path": backup.url,
        "tables": len(before),
        "rows": sum(d.rows for d in back.values()),
        "identical": same,
        "restore_seconds": restored.seconds,
        "downtime_seconds": restored.downtime_seconds,
        "outage_seen_seconds": round(client.longest, 3),
    }


def _execute(info: ConnInfo, name: str) -> None:
    script = package_files("naap_ops.demo").joinpath(name).read_bytes()
    with connect(info) as connection:
        connection.execute(script)


def _digests(info: ConnInfo) -> dict[str, Digest]:
    with connect(info) as connection:
        return digests(connection)


def _table(before: dict[str, Digest], after: dict[str, Digest], back: dict[str, Digest], say: Say) -> None:
    width = max(map(len, before))
    say(f"{'table'.ljust(width)}  {'before':>25}  {'after the migration':>25}  {'restored':>25}")
    for name in sorted(before):
        cells = [_cell(state.get(name)) for state in (before, after, back)]
        mark = (
            ""
            if before[name] == after.get(name)
            else "  <- damaged, and back"
            if before[name] == back.get(name)
            else "  <- LOST"
        )
        say(f"{name.ljust(width)}  {'  '.join(cell.rjust(25) for cell in cells)}{mark}")


def _cell(digest: Digest | None) -> str:
    return "gone" if digest is None else f"{digest.rows:,} {digest.value}"


class _Client(Background):
    """An application that asks, and connects again whenever it is cut off. ``longest``: its longest wait, in seconds."""

    def __init__(self, info: ConnInfo) -> None:
        super().__init__()
        self._info = info
        self.longest = 0.0

    def work(self) -> None:
        from psycopg import Error

        last = clock.monotonic()
        while not self.stop.is_set():
            try:
                with connect(self._info) as connection:
                    while not self.stop.is_set():
                        connection.execute('select count(*) from "Team"')
                        self.longest = max(self.longest, clock.monotonic() - last)
                        last = clock.monotonic()
                        self.stop.wait(0.01)
            except (Error, OpsError):
                continue
