"""Row ``images``: a dropped column of ten million rows kept, and brought back while others go on writing to its table.

Kept: against ``CREATE TABLE AS`` of key and column. Brought back: the whole command, from what the deploy captured and out of
the backup, beside a client that inserts a row and updates another again and again; what it waited; what a store sends for it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from bench.figures import Line, Pairs, alternate, load, note
from bench.lab import BIN, DURABLE, Options, Run, bare_environment, run
from bench.measures.rollback import INIT, ROWS_PER_MB, _apply, _write
from bench.store import Store
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import server_bindir
from naap_ops.postgres.url import to_url
from naap_ops.prisma.attempts import create as create_table
from naap_ops.reverse.images import taking
from naap_ops.reverse.images.model import Keep, KeptColumn, images_of

MAJOR = 16
DROP = "20260201000000_drop_column"
BIG = 'CREATE TABLE "big" ("id" INTEGER PRIMARY KEY, "n" INTEGER, "name" TEXT NOT NULL);\n'
SCRIPT = 'ALTER TABLE "big" DROP COLUMN "name";\n'
KEEP = Keep(("public", "big"), ("public", "big"), (KeptColumn("id", "id", True),), (KeptColumn("name", None, True),), False)
_ROWS = "insert into big select i, i %% 7, md5(i::text) from generate_series(1, %s) i"
_SUM = "select count(*)::text || sum(hashtext(name))::text from big where id <= %s"
_FETCHED_SHARE = 10  # what is fetched is counted with a tenth of the rows
WANTED_RATIO, WANTED_SECONDS, WANTED_WAIT, WANTED_FETCHED = 1.3, 60.0, 1.0, 1.05


def measure(options: Options) -> list[Line]:
    major = options.majors[0] if options.majors else MAJOR
    rows = options.size_mb * ROWS_PER_MB
    with _shop(major, rows) as shop:
        lines = [shop.capture(options.runs)]
        shop.ops("backup").checked()
        for what, words in (("capture", ()), ("the backup", ("--no-capture",))):
            lines += shop.back(what, words)
    with Store() as store, store.bucket() as bucket, store.relay() as relay, _shop(major, rows // _FETCHED_SHARE) as shop:
        shop.env |= store.environment(bucket, through=relay)
        made = shop.ops("snapshot").checked()
        [table] = [each for each in store.manifest(bucket, made.result)["tables"] if each["name"] == "big"]
        facts = {fact["path"]: fact for fact in store.manifest(bucket, made.result)["files"]}
        size = int(facts[table["file"]].get("stored", facts[table["file"]])["bytes"])
        lines.append(shop.fetched(size, lambda: relay.sent_back))
    return lines


@contextlib.contextmanager
def _shop(major: int, rows: int) -> Iterator[_Shop]:
    """A project whose first migration is applied, with that many rows."""
    with TemporaryDirectory() as place, ScratchServer(server_bindir(major), Path(place) / "server", config=DURABLE) as server:
        with connect(server.info) as connection:
            connection.execute("create database shop")
        info = server.info.with_dbname("shop")
        project = Path(place) / "project"
        _write(project, INIT, BIG)
        note(f"  {rows:,} rows")
        with connect(info) as connection:
            create_table(connection, "public")
            _apply(connection, project, INIT)
            connection.execute(_ROWS, [rows])
            connection.execute("vacuum analyze big")
        env = {**bare_environment(), "DIRECT_URL": to_url(info), "HOME": str(project)}
        _write(project, DROP, SCRIPT)
        yield _Shop(info, project, rows, env | {"NAAP_OPS_REPOSITORY": str(Path(place) / "backups")})


@dataclass
class _Shop:
    info: ConnInfo
    project: Path
    rows: int
    env: dict[str, str] = field(default_factory=dict)

    def ops(self, *words: str) -> Run:
        return run([BIN / "naap-ops", *words, "--json"], env=self.env, cwd=self.project)

    def execute(self, statement: str, *values: Any) -> Any:
        with connect(self.info) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchone() if cursor.description else None

    def capture(self, runs: int) -> Line:
        """Both in a transaction that is rolled back."""

        def timed(doing: Any) -> float:
            self.execute("checkpoint")
            with connect(self.info) as connection:
                connection.execute("begin")
                began = time.perf_counter()
                doing(connection)
                taken = time.perf_counter() - began
                connection.execute("rollback")
                return taken

        def ours(connection: Any) -> None:
            images = taking.before(connection, images_of(DROP, (KEEP,)), lock=True)
            connection.execute(SCRIPT.encode())
            taking.after(connection, images)

        def theirs(connection: Any) -> None:
            connection.execute('create table kept as select "id", "name" from "big"')

        pairs: Pairs = alternate(runs, lambda: timed(ours), lambda: timed(theirs))
        what = f"a dropped column of {self.rows:,} rows captured / CREATE TABLE AS of key and column"
        return pairs.line("images", what, wanted=WANTED_RATIO)

    def back(self, what: str, words: tuple[str, ...]) -> list[Line]:
        """Deployed, and rolled back beside a writer."""
        was = self.execute(_SUM, self.rows)
        self.ops("deploy", "--yes", "--no-backup", *words).checked()
        self.execute("checkpoint")
        writer = _Writer(self.info, self.rows)
        done = self.ops("rollback", "--migration", "latest", "--strategy", "reverse", "--yes").checked()
        waits = writer.end()
        assert self.execute(_SUM, self.rows) == was
        steps = {each["name"]: each["seconds"] for each in done.result["steps"]}
        meanwhile, last = self._split(done.result, waits)
        note(f"  from {what}: {done.seconds:.1f} s, {steps}, {len(waits):,} writes, waited {meanwhile:.2f}, {last:.2f}{load()}")
        self._again()
        return [
            Line(
                "images",
                f"that column brought back from {what}, the whole command",
                f"{done.seconds:.1f} s",
                wanted=f"< {WANTED_SECONDS:.0f} s",
                met=done.seconds < WANTED_SECONDS,
                details={"steps": steps},
            ),
            Line(
                "images",
                f"longest wait of {len(waits):,} writes to the table until it is filled, from {what}",
                f"{meanwhile:.2f} s",
                wanted=f"<= {WANTED_WAIT:.0f} s",
                met=meanwhile <= WANTED_WAIT,
            ),
            Line("images", "  and in the last transaction, with RENAME and SET NOT NULL", f"{last:.2f} s"),
        ]

    def _split(self, result: Mapping[str, Any], waits: list[tuple[float, float]]) -> tuple[float, float]:
        """The longest waits before the reverse's own transaction was begun, and from then on."""
        journal = self.project / ".naap_ops" / "journal" / f"{result['journal']}.jsonl"
        events = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
        [began] = [each["at"] for each in events if each.get("name") == f"{DROP} in public" and each.get("state") == "begun"]
        at = dt.datetime.fromisoformat(began).timestamp()
        before = [seconds for begin, seconds in waits if begin + seconds < at]
        return max(before, default=0.0), max((seconds for begin, seconds in waits if begin + seconds >= at), default=0.0)

    def _again(self) -> None:
        """The folder out of the archive, the table as it was."""
        [kept] = (self.project / ".naap_ops" / "archive" / "migrations").glob(f"*/{DROP}")
        kept.rename(self.project / "prisma" / "migrations" / DROP)
        (kept.parent / "untracked.json").unlink()
        kept.parent.rmdir()
        self.execute("delete from big where id > %s", self.rows)
        self.execute("vacuum full analyze big")

    def fetched(self, size: int, sent: Any) -> Line:
        self.ops("deploy", "--yes", "--no-backup", "--no-capture").checked()
        before = sent()
        self.ops("rollback", "--migration", "latest", "--strategy", "reverse", "--yes").checked()
        taken = sent() - before
        return Line(
            "images",
            f"bytes fetched from S3 for it / of the table's file, {self.rows:,} rows",
            f"{taken / 1e6:.3f} MB",
            f"{size / 1e6:.3f} MB",
            f"{taken / size:.3f}",
            wanted=f"<= {WANTED_FETCHED:.2f}",
            met=taken <= size * WANTED_FETCHED,
            details={"fetched": taken, "size": size},
        )


class _Writer:
    """Inserts a row and updates another, again and again, until its end."""

    def __init__(self, info: ConnInfo, rows: int) -> None:
        self._info, self._rows = info, rows
        self._stop = threading.Event()
        self._waits: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> list[tuple[float, float]]:
        """When each write began, and how long it took, in seconds."""
        self._stop.set()
        self._thread.join()
        return self._waits

    def _work(self) -> None:
        chance, number = random.Random(0), self._rows
        with connect(self._info) as connection:
            while not self._stop.is_set():
                number += 1
                self._timed(connection, "insert into big (id, n) values (%s, 0)", number)
                self._timed(connection, "update big set n = n + 1 where id = %s", chance.randint(1, self._rows))
                self._stop.wait(0.002)

    def _timed(self, connection: Any, statement: str, value: int) -> None:
        moment, began = time.time(), time.perf_counter()
        with contextlib.suppress(psycopg.errors.NotNullViolation):  # the column is back
            connection.execute(statement.encode(), [value])
        self._waits.append((moment, time.perf_counter() - began))
