"""Row ``images_corpus``: migrations of the corpus that destroy or change rows, deployed with their images and rolled back.

Judged by a copy of the database from before the deploy, row by row as text, with rows that the proof has not made. Then the
same with random writes between the deploy and the rollback: each has to survive, or to be listed as a conflict.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import psycopg
from psycopg import sql as composed

from bench import judge, seeder, writes
from bench.corpus import folder, histories
from bench.figures import Line, note
from bench.lab import Options
from bench.since import Since
from naap_ops.deploys.capture import one_transaction
from naap_ops.errors import OpsError
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from naap_ops.postgres.tools import installations
from naap_ops.reverse.document import segments
from naap_ops.reverse.images import brought, parked, parking, store, taking
from naap_ops.reverse.images.model import Image, images_of
from naap_ops.reverse.make import Reverse, make
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql, quoted
from naap_ops.reverse.replay import replay, search_path
from naap_ops.reverse.script import Script, parse

MAJOR = 15  # the extensions that the histories create come with the system's packages
_CONFIG = {"temp_file_limit": "2GB", "max_locks_per_transaction": "1024", "max_connections": "40", "shared_buffers": "256MB"}
_ATTEMPTS = 4  # tables that are left without rows, as the migration fails on them
_PART = 100  # migrations that one process takes at a time; those before them it only applies
_CHANGES = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|TYPE|SCHEMA|SEQUENCE|VIEW|MATERIALIZED|DOMAIN|EXTENSION|FUNCTION)|\bUPDATE\s+(?!CASCADE|SET\b|NO\b|RESTRICT)"
    r"|\bDELETE\s+FROM|\bTRUNCATE|\bINSERT\b|\bMERGE\b|\bDO\s|\bTYPE\b(?!\s+\S+\s+AS\s)|\bUSING\s*\(|\bCALL\b|\bSELECT\b|\bCOPY\b",
    re.IGNORECASE,
)  # everything else only adds
DATA = ("rows", "values", "residue")


def measure(options: Options) -> list[Line]:
    where = folder()
    if where is None:
        return []
    major = options.majors[0] if options.majors else MAJOR
    with TemporaryDirectory() as place, ScratchServer(installations()[major], Path(place), config=_CONFIG) as server:
        jobs: list[tuple[str, list[Path], int, ConnInfo]] = [
            (name, files, first, server.info)
            for name, files in histories(where).items()
            for first in range(0, len(files), _PART)
        ]
        jobs.sort(key=_size)
        with ProcessPoolExecutor(options.jobs) as pool:
            found = [outcome for part in pool.map(_part, jobs) for outcome in part]
    return _lines(found)


def _size(job: tuple[str, list[Path], int, ConnInfo]) -> int:
    return job[2] - len(job[1])


def _lines(found: list[dict[str, Any]]) -> list[Line]:
    count = Counter(each["outcome"] for each in found)
    since = Counter(each["since"] for each in found if each["since"])
    named = count["named"] + count["refused"]
    judged = sum(count.values()) - count["does not run"] - count["runs on no rows"]
    destroys = sum(1 for each in found if each.get("destroys"))
    told = ", ".join(f"{what} {number}" for what, number in sorted(count.items()))
    writes_of = {key: sum(each[key] for each in found) for key in ("writes", "listed", "by nature")}
    again = since["kept"] + since["wrong"]
    return [
        Line(
            "images_corpus", f"every row and value as before ({told}; {destroys} change rows)",
            f"{count['as before']} of {judged}",
            ratio=f"{count['as before'] / max(judged, 1):.2%}", wanted="99 %, the rest named",
            met=count["as before"] >= 0.99 * judged or count["as before"] + named == judged, details={"migrations": found},
        ),
        Line("images_corpus", "silently wrong", str(count["wrong"]), wanted="0", met=not count["wrong"]),
        Line(
            "images_corpus",
            f"with writes since: every one survives or is listed ({writes_of['writes']} writes, {writes_of['listed']} listed, "
            f"{writes_of['by nature']} to what the migration made; {since['stopped by name']} rollbacks stopped and named rows "
            f"that the old schema cannot hold, {since['stopped']} on an error of the server's; neither changed anything)",
            f"{since['kept']} of {again}", wanted="all", met=not since["wrong"],
        ),
    ]  # fmt: skip


def _part(job: tuple[str, list[Path], int, ConnInfo]) -> list[dict[str, Any]]:
    name, files, first, info = job
    walk = _Walk(name, info, f"{crc32(name.encode()):08x}_{first}")
    found = []
    for at, file in enumerate(files[: first + _PART]):
        script = parse(file.read_bytes(), name=file.parent.name)
        if at >= first and _CHANGES.search(script.text):
            one: dict[str, Any] = {"history": name, "name": script.name, "since": "", "why": ""}
            one |= {"writes": 0, "listed": 0, "by nature": 0}
            one |= _Trial(walk, script).judged()
            if one["outcome"] != "as before" or one["since"] not in ("kept", ""):
                note(f"  {name}/{script.name}: {one['outcome']}, since {one['since']}: {one['why'][:1500]}")
            found.append(one)
        if not walk.apply(script):
            break
    since, written = Counter(each["since"] for each in found if each["since"]), sum(each["writes"] for each in found)
    note(f"  {name} from {first}: {dict(Counter(each['outcome'] for each in found))}; {written} writes, since {dict(since)}")
    walk.drop("base")
    return found


@dataclass
class _Walk:
    """One history: database ``base`` is in the state before the migration in question, without rows but for its own."""

    name: str
    info: ConnInfo
    mark: str

    def __post_init__(self) -> None:
        self.fresh("base", "template0").close()

    def database(self, role: str) -> str:
        return f"{role} {self.mark}"

    def fresh(self, role: str, of: str = "base") -> Connection:
        """A new database, the copy of another one."""
        self.drop(role)
        source = of if of == "template0" else self.database(of)
        query = composed.SQL("create database {} template {} strategy file_copy")
        with connect(self.info) as connection:
            connection.execute(query.format(composed.Identifier(self.database(role)), composed.Identifier(source)))
        return self.open(role)

    def open(self, role: str) -> Connection:
        connection = connect(self.info, dbname=self.database(role))
        search_path(connection, "public")
        connection.execute("set client_min_messages = error")
        return connection

    def drop(self, *roles: str) -> None:
        with connect(self.info) as connection:
            for role in roles:
                name = composed.Identifier(self.database(role))
                connection.execute(composed.SQL("drop database if exists {} with (force)").format(name))

    def apply(self, script: Script) -> bool:
        with self.open("base") as connection:
            try:
                connection.execute(script.text.encode())
            except psycopg.Error as error:
                note(f"  {self.name}/{script.name} does not run: {error}")
                return False
        return True


class _Stopped(Exception):
    """The rollback was stopped, and has changed nothing. ``named``: by a check, that names rows."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.named = isinstance(error, psycopg.errors.RaiseException)


@dataclass
class _Trial:
    """One migration, there and back."""

    walk: _Walk
    script: Script

    def judged(self) -> dict[str, Any]:
        try:
            plain = self._made()
        except OpsError as error:
            return {"outcome": "does not run", "why": error.text}
        if plain.status != "proved":
            return {"outcome": "refused", "why": plain.reason}
        images = images_of(self.script.name, plain.keeps)
        back = self._made(images) if images else plain
        if back.status != "proved":
            return {"outcome": "wrong", "why": f"not proved with images: {back.reason}"}
        without: list[str] = []
        for mode in ("odd", *["plain"] * _ATTEMPTS, "empty"):
            try:
                return self._there_and_back(mode, without, plain, back, images)
            except psycopg.Error as error:  # that migration fails on such rows, wherever it is deployed
                why = f"{mode}: {error}"
                if mode == "plain":
                    without += self._failed_on(error)
        return {"outcome": "does not run", "why": why}

    def _made(self, images: tuple[Image, ...] = ()) -> Reverse:
        with self.walk.fresh("shadow") as connection:
            return make(
                Shadow(connection, snapshot(connection)),
                self.script,
                Sql("public"),
                state="its history",
                images=images,
                park=True,
            )

    def _failed_on(self, error: psycopg.Error) -> list[str]:
        """The table that the failure names, else all that the migration names."""
        if error.diag.table_name:
            return [f"{quoted(error.diag.schema_name or '')}.{quoted(error.diag.table_name)}"]
        with self.walk.open("oracle") as oracle:
            tables = seeder.tables_of(oracle).values()
        return [table.sql for table in tables if f'"{table.name[1]}"' in self.script.text]

    def _there_and_back(
        self, mode: str, without: list[str], plain: Reverse, back: Reverse, images: tuple[Image, ...]
    ) -> dict[str, Any]:
        with self.walk.fresh("oracle") as oracle:
            if mode != "empty":
                seeder.seed(oracle, plain=mode == "plain")
            for table in without:
                oracle.execute(f"truncate {table} cascade".encode())
            before = judge.contents(oracle)
        outcome = {"mode": mode, "without": list(without), **self._quiet(before, plain, back, images)}
        if mode == "empty" and outcome["outcome"] == "as before":
            outcome["outcome"] = "runs on no rows"
        if mode != "empty":
            outcome |= self._busy(before, plain, back, images)
        return outcome

    def _deployed(self, images: tuple[Image, ...]) -> Connection:
        """As `invoke deploy` does it, or as it is done where its images come out of a backup."""
        live = self.walk.fresh("live", "oracle")
        live.execute("set statement_timeout = '60s'")
        if one_transaction(self.script):
            live.execute("begin")
            taken = taking.before(live, images, lock=True)
            live.execute(self.script.text.encode())
            live.execute("set constraints all immediate")
            taking.after(live, taken)
            live.execute("commit")
        else:
            taken = taking.before(live, images)
            try:
                replay(live, self.script, snapshot(live), steps=False, look=False)
            except OpsError as error:
                raise psycopg.DataError(error.text) from error
            taking.after(live, taken)
        return live

    def _down(self, live: Connection, back: Reverse, *, put: bool = False) -> set[tuple[str, str]]:
        """Conflicts by table and key, with ``put`` also rows that are parked because the migration put them there. Raises
        _Stopped."""
        parts, listed = segments(back.text), set[tuple[str, str]]()
        store.prepare(live)
        try:
            for part in parts:
                if part.transactional:
                    live.execute("begin")
                    listed |= self._parked(live, back) if put and part is parts[0] else set()
                    live.execute(part.sql.encode())
                    _, conflicts, _ = brought.counted(live)
                    listed |= {(each["table"], each["key"]) for each in conflicts}
                    live.execute("commit")
                else:
                    for statement in parse(part.sql.encode(), name="down.sql").statements:
                        live.execute(statement.sql.encode())
        except psycopg.Error as error:
            live.execute("rollback")
            raise _Stopped(error) from error
        return listed

    def _parked(self, live: Connection, back: Reverse) -> set[tuple[str, str]]:
        put = [park for park in back.parks if park.put]
        facts = {"migration": self.script.name, "schema": "public", "attempt": ""}
        parking.park(live, put, **facts, lasting=timedelta(days=1))
        found = set()
        for each in parked.found(live):
            key = ", ".join(f"k{at}::text" for at, _ in enumerate(each.park.key, 1))
            rows = live.execute(f"select concat_ws(', ', {key}) from {each.name}".encode()).fetchall()
            found |= {(each.relation, value) for (value,) in rows}
        return found

    # --- nobody writes ------------------------------------------------------------------------------------------------

    def _quiet(self, before: judge.Contents, plain: Reverse, back: Reverse, images: tuple[Image, ...]) -> dict[str, Any]:
        with self._deployed(images) as live:
            left = judge.contents(live)
            destroys = any(not each.what.startswith("the sequence") for each in judge.differences(before, left))
            try:
                conflicts = self._down(live, back)
            except _Stopped as stopped:
                foreseen = plain.proof is not None and any(each in str(stopped) for each in plain.proof.conditions)
                return {"outcome": "named" if foreseen else "stopped", "destroys": destroys, "why": f"stopped: {stopped}"}
            wrong = list(judge.differences(before, judge.contents(live)))
        named, unnamed = _sorted_out(plain, wrong)
        why = "; ".join(map(str, [*unnamed, *named][:6])) + (f"; conflicts {sorted(conflicts)[:3]}" if conflicts else "")
        if unnamed or conflicts:
            outcome = "named" if back.unfit else "wrong"  # the deploy tries the same
            return {"outcome": outcome, "destroys": destroys, "why": f"{why}; {back.unfit[:1]}"}
        return {"outcome": "named" if named else "as before", "destroys": destroys, "why": why}

    # --- with writes --------------------------------------------------------------------------------------------------

    def _busy(self, before: judge.Contents, plain: Reverse, back: Reverse, images: tuple[Image, ...]) -> dict[str, Any]:
        with self._deployed(images) as live:
            left = judge.contents(live)
            writes.write(live, crc32(self.script.name.encode()))
            written = judge.contents(live)
            try:
                conflicts = self._down(live, back, put=True)
            except _Stopped as stopped:
                return {"since": "stopped by name" if stopped.named else "stopped", "why": str(stopped)}
            seen = Since(before, left, written, judge.contents(live), conflicts, live)
            _, wrong = _sorted_out(plain, list(seen.wrong()))
        counts = {"writes": seen.writes, "listed": seen.listed, "by nature": seen.by_nature}
        if not wrong:
            return {"since": "kept", **counts}
        return {
            "since": "named" if back.unfit else "wrong",
            **counts,
            "why": "since: " + "; ".join(map(str, wrong[:6])),
        }


def _sorted_out(plain: Reverse, found: list[judge.Difference]) -> tuple[list[judge.Difference], list[judge.Difference]]:
    """Those that were named before the deploy as not coming back, and the others."""
    assert plain.plan is not None
    lost = [loss for _, loss in plain.plan.losses if not loss.since]
    if any(each.relation is None for each in plain.cannot):
        return found, []  # rows of tables that nobody can name before it runs
    gone = {(loss.relation, loss.column) for loss in lost if loss.kind in DATA and loss.source == "cannot"}
    gone |= {(loss.relation, None) for loss in lost if loss.kind == "state"}
    named = [each for each in found if (each.table, each.column) in gone or (each.table, None) in gone]
    return named, [each for each in found if each not in named]
