"""Walk a whole history of migrations: the reverse of every one, each from the state that those before it leave.

The history is divided into contiguous parts, each walked by its own process in its own database of one scratch server,
because half of the work is ours and not the server's. ``python -m naap_ops.reverse.history`` is such a process: one JSON object
on its input says what to do, one on each line of its output what was done, and it ends when its input does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql as composed

from naap_ops import process
from naap_ops.errors import ForwardFailed, MigrationUnreadable, OpsError, ReverseRefused, ShadowSpoiled
from naap_ops.files import make_private_dir, write_durably
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.reverse import files, shadows, starting, verdicts
from naap_ops.reverse.families import family_of
from naap_ops.reverse.files import Migration
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql

if TYPE_CHECKING:
    from naap_ops.reverse.script import Script

REFUSED_FILE = "refused.txt"
STATE = "the history before it"
Tell = Callable[["Entry"], None]
OUTCOMES = ("proved", "refused", "failed")


@dataclass(frozen=True)
class Entry:
    """What became of one migration. ``outcome``: proved; refused; failed (its proof did, or it does not run itself)."""

    name: str
    outcome: str
    families: list[str]
    seconds: float
    reason: str = ""
    again: bool = False
    """It was finished by an earlier walk."""


@dataclass(frozen=True)
class Job:
    """One part of a walk: the migrations from ``begin`` up to ``end`` of a folder, in a database ``dbname`` of the server."""

    server: ConnInfo
    folder: Path
    out: Path
    schema: str
    templates: Path | None
    begin: int
    end: int
    dbname: str
    again: bool = False


def parts(count: int, jobs: int) -> list[tuple[int, int]]:
    """(begin, end) of contiguous parts that take about as long: later migrations see a larger catalog and count more."""
    total = sum(_weight(at, count) for at in range(count))
    bounds, sum_ = [0], 0.0
    for at in range(count):
        parts_left = jobs - len(bounds)
        if at and parts_left > 0 and (sum_ >= total * len(bounds) / jobs or count - at == parts_left):
            bounds.append(at)
        sum_ += _weight(at, count)
    return [(begin, end) for begin, end in zip(bounds, [*bounds[1:], count], strict=True) if begin < end]


def _weight(at: int, count: int) -> float:
    return 1 + at / count


def by_family(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """How many migrations each family had a part in, by outcome."""
    found: dict[str, Counter[str]] = {}
    for entry in entries:
        for family in entry.families:
            found.setdefault(family, Counter())[entry.outcome] += 1
    return {family: {outcome: counts[outcome] for outcome in OUTCOMES} for family, counts in sorted(found.items())}


# --- one part -------------------------------------------------------------------------------------------------------


class Walk:
    """Walks one part. ``with`` it: the database goes with the block."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.migrations = files.in_folder(job.folder)
        self.sql = Sql(job.schema, job.templates)
        self.shadow: Shadow | None = None
        self.known = False  # whether the shadow's catalog has been looked at since the last change

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shadow is not None:
            self.shadow.connection.close()

    def entries(self) -> Iterator[Entry]:
        """Make, or find made, the reverse of each. A migration that cannot be run is passed over."""
        for at in range(self.job.begin, self.job.end):
            migration = self.migrations[at]
            done = None if self.job.again else self._finished(migration)
            if done is None:
                yield self._made(at)
            else:
                yield done
                if self.shadow is not None:
                    self._forward(migration)

    def _made(self, at: int) -> Entry:
        migration = self.migrations[at]
        shadow = self._ready(at)
        began = time.monotonic()
        major = shadow.catalog.major
        try:
            script = migration.script()
        except MigrationUnreadable as error:
            return self._unreadable(migration, error.text, time.monotonic() - began)
        try:
            reverse = make(shadow, script, self.sql, state=STATE)
            outcome = "proved" if reverse.status == "proved" else "failed" if verdicts.proof_failed(reverse) else "refused"
        except ShadowSpoiled as failure:
            reverse, outcome = verdicts.spoiled(script, failure, STATE, major), "failed"
            self._fresh(at + 1)
        except ForwardFailed as failure:
            reverse, outcome = verdicts.refused(script, failure.text, STATE, major), "failed"
            self._fresh(at + 1)
        reverse = dataclasses.replace(reverse, seconds=time.monotonic() - began)
        return self._write(migration, reverse, outcome)

    # --- the shadow ------------------------------------------------------------------------------------------------

    def _ready(self, at: int) -> Shadow:
        if self.shadow is None:
            self._fresh(at)
        assert self.shadow is not None
        if not self.known:
            self.shadow.catalog = snapshot(self.shadow.connection, schema=self.job.schema)
            self.known = True
        return self.shadow

    def _fresh(self, upto: int) -> None:
        """A new database in the state after the first ``upto`` migrations."""
        if self.shadow is not None:
            self.shadow.connection.close()
        name = composed.Identifier(self.job.dbname)
        with connect(self.job.server) as admin:
            admin.execute(composed.SQL("drop database if exists {} with (force)").format(name))
            admin.execute(composed.SQL("create database {} template template0").format(name))
        connection = shadows.session(self.job.server.with_dbname(self.job.dbname), self.job.schema)
        self.shadow = Shadow(connection, snapshot(connection, schema=self.job.schema))
        for migration in self.migrations[:upto]:
            self._forward(migration)

    def _forward(self, migration: Migration) -> None:
        assert self.shadow is not None
        self.known = False
        self.shadow.connection.execute("set statement_timeout = 0")
        with suppress(ReverseRefused):  # it has said so in its own turn, and changed nothing
            starting.replayed(self.shadow, migration.script())

    # --- the files -------------------------------------------------------------------------------------------------

    def _finished(self, migration: Migration) -> Entry | None:
        """What an earlier walk found, if it was about the same bytes and its files are whole."""
        place = self.job.out / migration.name
        try:
            known = json.loads((place / files.RECORD).read_bytes())
            text = (place / (files.DOWN if known["outcome"] == "proved" else REFUSED_FILE)).read_bytes()
            whole = known["sha256"] == hashlib.sha256(migration.read()).hexdigest() and known["down_sha256"] == _digest(text)
            entry = Entry(migration.name, known["outcome"], known["families"], known["seconds"], known["reason"], again=True)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return entry if whole else None

    def _write(self, migration: Migration, reverse: Reverse, outcome: str) -> Entry:
        record = reverse.as_dict()
        record["families"] = record["families"] or _families(reverse.script)
        return self._put(migration, reverse.text, {**record, "outcome": outcome})

    def _unreadable(self, migration: Migration, reason: str, seconds: float) -> Entry:
        """One that could not even be read."""
        digest = hashlib.sha256(migration.read()).hexdigest()
        record = {"migration": migration.name, "sha256": digest, "status": "refused", "reason": reason, "families": []}
        return self._put(migration, f"{reason}\n", {**record, "seconds": round(seconds, 3), "outcome": "refused"})

    def _put(self, migration: Migration, text: str, record: dict[str, Any]) -> Entry:
        place = self.job.out / migration.name
        make_private_dir(place)
        proved = record["outcome"] == "proved"
        (place / (REFUSED_FILE if proved else files.DOWN)).unlink(missing_ok=True)
        write_durably(place / (files.DOWN if proved else REFUSED_FILE), text.encode())
        known = {**record, "down_sha256": _digest(text.encode())}
        write_durably(place / files.RECORD, json.dumps(known, indent=2, ensure_ascii=False).encode() + b"\n")
        return Entry(migration.name, record["outcome"], record["families"], record["seconds"], record["reason"])


def _families(script: Script) -> list[str]:
    return sorted({name for statement in script.statements for kind in statement.kinds if (name := family_of(kind))})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- all parts ------------------------------------------------------------------------------------------------------


def walk(jobs: Sequence[Job], tell: Tell) -> list[Entry]:
    """Each part by a process of its own. The entries in the history's order; ``tell`` hears each as it comes.

    Raises CommandFailed when a process ends before its work does.
    """
    heard: queue.Queue[tuple[int, Entry | None]] = queue.Queue()
    found: list[list[Entry]] = [[] for _ in jobs]
    with ExitStack() as stack:
        children = [
            stack.enter_context(process.start([sys.executable, "-m", __name__], stdin=process.PIPE, stdout=process.PIPE))
            for _ in jobs
        ]
        for at, (child, job) in enumerate(zip(children, jobs, strict=True)):
            child.stdin.write(_told(job) + b"\n")
            child.stdin.flush()
            threading.Thread(target=_listen, args=(child, at, heard), daemon=True).start()
        left = len(jobs)
        while left:
            at, entry = heard.get()
            if entry is None:
                children[at].check()
                left -= 1
            else:
                found[at].append(entry)
                tell(entry)
    return [entry for part in found for entry in part]


def _listen(child: process.Child, at: int, heard: queue.Queue[tuple[int, Entry | None]]) -> None:
    for line in child.stdout:
        heard.put((at, Entry(**json.loads(line))))
    heard.put((at, None))


def _told(job: Job) -> bytes:
    server = {"host": job.server.host, "port": job.server.port, "user": job.server.user, "dbname": job.server.dbname}
    return json.dumps({**dataclasses.asdict(job), "server": server}, default=str).encode()


def _job(told: Mapping[str, Any]) -> Job:
    templates = Path(told["templates"]) if told["templates"] else None
    places = {"folder": Path(told["folder"]), "out": Path(told["out"]), "templates": templates}
    return Job(**{**told, **places, "server": ConnInfo(**told["server"])})


def _leash() -> None:
    """Nobody wants the rest when whoever holds the other end of our input is gone."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """The process of one part."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    threading.Thread(target=_leash, daemon=True).start()
    try:
        with Walk(_job(json.loads(line))) as part:
            for entry in part.entries():
                sys.stdout.write(json.dumps(dataclasses.asdict(entry)) + "\n")
                sys.stdout.flush()
    except OpsError as error:
        sys.exit(error.text)


if __name__ == "__main__":
    main()
