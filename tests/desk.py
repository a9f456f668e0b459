"""An operator's desk, for tests: one database, one folder for backups, and the toolkit called as operators call it.

``run`` calls the program inside this process, which is quick; ``program`` and ``spawn`` start it as a process of its own, where
the process is the point. ``app`` is the application without the command line. Nothing of the caller's own settings gets in.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from naap_ops import clock
from naap_ops.app import App
from naap_ops.backup import manifest as manifests
from naap_ops.backup.repository import Backup
from naap_ops.cli import main
from naap_ops.config.sources import load
from naap_ops.events import Events
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url

PROGRAM = Path(sys.executable).with_name("naap-ops")
INVOKE = Path(sys.executable).with_name("invoke")
_KEPT = ("PATH", "PYTHONPATH", "TMPDIR", "LANG")

# Stands for a bug: something that nobody foresaw goes wrong inside a task.
BUG = """
import sys
from naap_ops import app, cli

def bug(*_, **__):
    raise RuntimeError("no such thing at postgresql://u:hushhush@h/d")

app.App.target = bug
cli.main(["naap-ops", *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Run:
    """What a call of the program came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of standard output, which must be one JSON object."""
        found = json.loads(self.out.rstrip("\n").rpartition("\n")[2])
        assert isinstance(found, dict)
        return found


@dataclass
class Desk:
    """``folder`` is working directory and home; backups go to ``folder/backups``. ``info`` None: no database is configured."""

    folder: Path
    info: ConnInfo | None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        return self.folder / "backups"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        url = {"DIRECT_URL": to_url(self.info)} if self.info is not None else {}
        return {**kept, "HOME": str(self.folder), **url, **self.extra}

    def settings(self, text: str) -> None:
        """Write ``naap_ops.toml``."""
        (self.folder / "naap_ops.toml").write_text(text, encoding="utf-8")

    def sql(self, *statements: str, dbname: str | None = None) -> None:
        assert self.info is not None
        with connect(self.info, dbname=dbname) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def ask(self, query: str, dbname: str | None = None) -> Any:
        """The first column of the first row."""
        assert self.info is not None
        with connect(self.info, dbname=dbname) as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    # --- without the command line -----------------------------------------------------------------------------------

    def app(self, **settings: Any) -> App:
        """The application; ``backup__format`` is the setting ``backup.format``."""
        flags = {name.replace("__", "."): value for name, value in settings.items()}
        return App(load(flags, cwd=self.folder, environ=self.environ), Events())

    def backup(
        self,
        *,
        kind: str = "full",
        label: str = "",
        parts: Mapping[str, Sequence[str]] | None = None,
        app: App | None = None,
        **settings: Any,
    ) -> Backup:
        """Take a backup. ``parts``: schemas, tenants, plugins, tables, exclude_table_data."""
        app = app or self.app(**{"backup__jobs": 2, **settings})
        nothing: dict[str, Sequence[str]] = dict.fromkeys(("schemas", "tenants", "plugins", "tables", "exclude_table_data"), ())
        target = app.target(None)
        return app.back_up(app.request(target.alias, {**nothing, **(parts or {})}, kind=kind, label=label), target)

    def path(self, backup: Backup) -> Path:
        """The folder of a published backup."""
        return self.repo / backup.prefix

    def edit(self, backup: Backup, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the manifest and give it the checksum that fits, as somebody who means harm would."""
        path = self.path(backup) / "manifest.json"
        raw = json.loads(path.read_bytes())
        raw.pop("checksum")
        change(raw)
        path.write_text(json.dumps({**raw, "checksum": manifests._checksum(raw)}), encoding="utf-8")

    def aged(self, backup: Backup, age: timedelta) -> Backup:
        """A copy of the backup that is so much older than now."""
        id = clock.new_id(clock.now() - age)
        copy = Backup(backup.alias, id, backup.storage)
        shutil.copytree(self.path(backup), self.path(copy))
        self.edit(copy, lambda raw: raw.update(id=id))
        return self.app().repository.find(id, backup.alias)

    def listed(self) -> list[Backup]:
        """What the repository shows now, newest first."""
        return self.app().repository.backups()

    def leftovers(self) -> list[str]:
        """Folders of databases' folders that are no published backup: what a run cut short leaves."""
        if not self.repo.is_dir():
            return []
        folders = [entry for alias in self.repo.iterdir() if alias.is_dir() for entry in alias.iterdir()]
        return sorted(entry.name for entry in folders if not (entry / "manifest.json").exists())

    # --- with it ----------------------------------------------------------------------------------------------------

    def run(self, *words: str, **environ: str) -> Run:
        """The program, inside this process."""
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with self._inside(environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["naap-ops", *words])
            except SystemExit as end:
                code = int(end.code or 0)
        return Run(code, out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def _inside(self, environ: dict[str, str]) -> Iterator[None]:
        before, cwd, stdin = dict(os.environ), Path.cwd(), sys.stdin
        try:
            os.chdir(self.folder)
            os.environ.clear()
            os.environ.update({**self.environ, **environ})
            with open(os.devnull, encoding="utf-8") as nothing:
                sys.stdin = nothing
                yield
        finally:
            sys.stdin = stdin
            os.environ.clear()
            os.environ.update(before)
            os.chdir(cwd)

    def spawn(self, *words: str, argv0: Sequence[str | Path] = (PROGRAM,), **options: Any) -> subprocess.Popen[str]:
        """The program as the leader of a process group of its own, its output in pipes. The test's end is its end."""
        environ = {**self.environ, **options.pop("environ", {})}
        child = subprocess.Popen(
            [*map(str, argv0), *words],
            **{"cwd": self.folder, "stdin": subprocess.DEVNULL, **options},
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        _SPAWNED.append(child)
        return child

    def program(self, *words: str, **options: Any) -> Run:
        """The program as a process, run to its end."""
        child = self.spawn(*words, **options)
        out, err = child.communicate(timeout=240)
        return Run(child.returncode, out, err)


_SPAWNED: list[subprocess.Popen[str]] = []


def end_spawned() -> None:
    """End what the test has started and not waited for, with all it had started in turn, and close the pipes."""
    while _SPAWNED:
        child = _SPAWNED.pop()
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def wait_until(holds: Callable[[], object], *, seconds: float = 60.0, poll: float = 0.01) -> None:
    """Wait for a condition that another process brings about; fail loudly when it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(poll)


def command_lines() -> list[bytes]:
    """Of all processes there are."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(path.read_bytes())
    return found
