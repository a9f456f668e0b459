"""Plain SQL scripts, from here and from elsewhere: as pg_dump and pg_restore write them, loaded whole."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from naap_ops import process
from naap_ops.config.settings import ToolsSettings
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.tools import find_tools, installations
from naap_ops.restore import marks
from tests import restored
from tests.desk import Desk
from tests.scripts import PAIR, load, nothing_left, write

QUOTED = '"' + restored.NAME.replace('"', '""') + '"'


@pytest.fixture
def desk(any_filled: Desk) -> Desk:
    return any_filled


# --- whole scripts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restrict", [True, False], ids=["restrict", "before restrict"])
def test_swap_from_a_script(live: Desk, restrict: bool) -> None:
    assert live.info is not None
    restored.rich(live.info)
    live.sql(f"comment on database {QUOTED} is 'mine'", f"alter database {QUOTED} set work_mem to '5MB'", dbname="postgres")
    script = restored.dumped(live.info)
    assert PAIR.search(script)
    before, outside = restored.content(live.info), restored.props(live.info)
    live.sql("drop schema tenant_acme cascade", "select lo_unlink(oid) from pg_largeobject_metadata")

    run = load(live, script if restrict else PAIR.sub(b"", script), "--swap")

    assert run.code == 0, run.err
    assert restored.content(live.info) == before
    assert restored.props(live.info) == outside
    assert run.json["rows"] == sum(digest.rows for digest in before.tables.values())
    mark = marks.read(restored.props(live.info, run.json["previous"]).comment)
    assert mark is not None
    assert (mark.backup, mark.comment) == ("script.sql", "mine")
    assert live.run("restore.undo", "--yes").code == 0
    assert "tenant_acme.invoice" not in restored.tables(live.info)


@pytest.mark.parametrize("name", ["s.sql.gz", "s.sql.zst", "no ending at all", "größe 50%.sql"])
def test_however_it_is_compressed(desk: Desk, script: bytes, name: str) -> None:
    assert desk.info is not None
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    packed = packers.get(Path(name).suffix, bytes)(script)
    run = desk.run("restore", "--file", write(desk, packed, name), "--into", "nëw", "--json")
    assert run.code == 0, run.err
    assert restored.tables(desk.info, "nëw") == restored.tables(desk.info)
    assert (run.json["tables"], run.json["rows"]) == (3, 201)


FLAVOURS = (
    ["--inserts"],
    ["--column-inserts", "--rows-per-insert=7"],
    ["--clean", "--if-exists"],
    ["--schema=public"],
    ["--no-comments", "--quote-all-identifiers"],
    ["--serializable-deferrable", "--disable-triggers"],
)


@pytest.mark.parametrize("words", FLAVOURS, ids=" ".join)
def test_flavours_of_pg_dump(desk: Desk, words: list[str]) -> None:
    assert desk.info is not None
    script = restored.dumped(desk.info, *words)
    if words[0] == "--schema=public":
        script = script.replace(b"CREATE SCHEMA public;", b"")
    run = load(desk, script)
    assert run.code == 0, run.err
    assert restored.tables(desk.info, "new") == restored.tables(desk.info)


def test_what_pg_restore_makes_of_an_archive(desk: Desk) -> None:
    assert desk.info is not None
    archive = desk.folder / "a.dump"
    archive.write_bytes(restored.dumped(desk.info, "-Fc"))
    with nothing_left(desk):
        refused = desk.run("restore", "--file", archive.name, "--swap", "--yes", "--json")
        assert refused.code == 17
        assert "pg_restore" in refused.json["hint"]
    command = restored.tools(desk.info).command("pg_restore", ["-f", "-", str(archive)], desk.info)
    assert load(desk, process.run(command.argv, env=command.env)[1]).code == 0


def test_names_in_another_encoding(desk: Desk) -> None:
    assert desk.info is not None
    desk.sql('create table "größe é" (s text)', """insert into "größe é" values ('é'), ('à'), (E'\\n\\\\.\\n')""")
    run = load(desk, restored.dumped(desk.info, "-E", "LATIN1"))
    assert run.code == 0, run.err
    assert restored.tables(desk.info, "new") == restored.tables(desk.info)
    assert (run.json["tables"], run.json["rows"]) == (4, 204)


def test_of_an_empty_database(desk: Desk, any_server: ScratchServer) -> None:
    assert desk.info is not None
    run = load(desk, restored.dumped(restored.create(any_server.info, "nothing")))
    assert run.code == 0, run.err
    assert (run.json["tables"], run.json["rows"]) == (0, 0)
    assert restored.tables(desk.info, "new") == {}


# --- versions -------------------------------------------------------------------------------------------------------


def foreign(desk: Desk, major: int) -> bytes:
    """The desk's database, dumped by the pg_dump of a newer major."""
    assert desk.info is not None
    if major not in installations():
        pytest.skip(f"no tools of PostgreSQL {major}")
    command = find_tools(major, ToolsSettings()).command("pg_dump", [], desk.info)
    return process.run(command.argv, env=command.env)[1]


def test_a_newer_pg_dump_of_an_older_server(desk: Desk) -> None:
    assert desk.info is not None
    script = foreign(desk, 18)
    assert b"SET transaction_timeout" in script
    assert load(desk, script).code == 0
    assert restored.tables(desk.info, "new") == restored.tables(desk.info)


def test_of_a_newer_server(desk: Desk, script: bytes) -> None:
    newer = re.sub(rb"(Dumped from database version )\S+", rb"\g<1>42.1", script)
    with nothing_left(desk):
        run = load(desk, newer)
        assert run.code == 17
        assert "42" in run.json["message"]
