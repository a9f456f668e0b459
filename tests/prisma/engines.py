"""Real Prisma for the tests: the CLI of 6, and the schema engine of 7, run on one project and one database.

npm installs them once per lock file, into a folder beside the tests' servers; nothing is downloaded but packages. ``deploy``,
``status`` and ``dev`` say in one word what Prisma thinks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo

HERE = Path(__file__).parent
GENERATIONS = ("6", "7.8", "7.9")
# The older ones with the long tests.
EACH_GENERATION = tuple(pytest.param(each, marks=[pytest.mark.long] if each != GENERATIONS[-1] else []) for each in GENERATIONS)
_CODE = re.compile(r"\bP[13]\d{3}\b")
_LISTED = re.compile(r"└─ (.+)/$", re.MULTILINE)
_HISTORY = {"databaseIsBehind": "behind", "migrationsDirectoryIsBehind": "ahead", "historiesDiverge": "diverged"}
_MIN_NODE = 20


def why_not() -> str | None:
    """What is missing here to run Prisma."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return f"{' and '.join(missing)} not found"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return None if int(version[1:].split(".")[0]) >= _MIN_NODE else f"Node {version.strip()} is too old"


def install(root: Path) -> Path:
    """The folder whose ``node_modules`` is what the lock file names. Made once; several processes may ask at a time."""
    lock = (HERE / "package-lock.json").read_bytes()
    folder = root / f"prisma-{hashlib.sha256(lock).hexdigest()[:16]}"
    with open(root / f"{folder.name}.lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # until the file is closed
        if not folder.is_dir():
            _npm_ci(folder)
    return folder


def _npm_ci(folder: Path) -> None:
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, making)
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    done = subprocess.run(words, cwd=making, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    making.rename(folder)


@dataclass(frozen=True)
class Prisma:
    """One generation at work on ``project`` (the folder of ``schema.prisma``) and a database."""

    generation: str
    packages: Path
    project: Path
    info: ConnInfo

    @property
    def migrations(self) -> Path:
        return self.project / "migrations"

    @property
    def environ(self) -> dict[str, str]:
        words = self.info.words()
        schema = {"schema": self.info.schema} if self.info.schema != "public" else {}
        target = {name: words[name] for name in ("host", "port", "user") if name in words}
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **kept,
            "NAAP_OPS_TEST_TARGET": json.dumps({**target, **schema, "database": self.info.dbname}),
            "NAAP_OPS_TEST_PACKAGES": str(self.packages),
            "NAAP_OPS_TEST_SCHEMA": str(self.project / "schema.prisma"),
            "PRISMA_QUERY_ENGINE_LIBRARY": str(self.packages / "package.json"),  # so that no engine is looked for
            "DATABASE_URL": "postgresql://nobody@localhost/unused",
            "CHECKPOINT_DISABLE": "1",
            "PRISMA_HIDE_UPDATE_MESSAGE": "1",
        }

    def argv(self, command: str, *words: str) -> list[str | Path]:
        if self.generation == "6":
            cli = self.packages / "node_modules" / "prisma" / "build" / "index.js"
            return ["node", cli, "migrate", command, *words, "--config", HERE / "prisma.config.mjs"]
        return ["node", HERE / "engine.mjs", f"schema-engine-{self.generation}", command, self.migrations, *words]

    def _run(self, command: str, *words: str) -> tuple[int, str]:
        argv, options = self.argv(command, *words), {"cwd": self.project, "env": self.environ}
        done = subprocess.run(argv, **options, capture_output=True, text=True, check=False, timeout=120)  # type: ignore[call-overload]
        return done.returncode, done.stdout + done.stderr if self.generation == "6" else done.stdout

    def _asked(self, command: str) -> tuple[str | None, dict[str, object]]:
        """The code of the error, or the engine's answer."""
        answer = json.loads(self._run(command)[1])
        return (answer.get("code") or answer["error"], {}) if "error" in answer else (None, answer["result"])

    def deploy(self) -> str | list[str]:
        """The names of what was applied, or the code of the error."""
        if self.generation != "6":
            code, result = self._asked("deploy")
            return code or list(result["appliedMigrationNames"])  # type: ignore[call-overload]
        status, text = self._run("deploy")
        if status:
            found = _CODE.search(text)
            assert found, text
            return found[0]
        return _LISTED.findall(text)

    def status(self) -> str:
        """``clean``, ``behind``, ``failed``; the engine of 7 also knows ``ahead`` and ``diverged``, the CLI's ``clean``."""
        if self.generation != "6":
            code, result = self._asked("status")
            if code or result["failedMigrationNames"]:
                return code or "failed"
            history = result["history"]
            return _HISTORY[history["diagnostic"]] if isinstance(history, dict) else "clean"
        status, text = self._run("status")
        if status == 0:
            assert "up to date" in text, text
            return "clean"
        if found := _CODE.search(text):
            return found[0]
        return "failed" if "failed" in text else "behind" if "not yet been applied" in text else text

    def dev(self) -> str:
        """What ``migrate dev`` would begin with: ``clean``, ``reset``, or the code of its error."""
        code, result = self._asked("dev")
        if code:
            return code
        action = result["action"]
        assert isinstance(action, dict)
        return "clean" if action["tag"] == "createMigration" else str(action["tag"])
