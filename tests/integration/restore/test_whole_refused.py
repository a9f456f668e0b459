"""What stands in the way of a restore is found before anything is written, or leaves nothing; the live one never notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from naap_ops.backup.manifest import Manifest
from naap_ops.backup.repository import Backup
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.tools import installations
from tests import restored
from tests.conftest import Servers
from tests.desk import Desk, Run

QUOTED = '"' + restored.NAME.replace('"', '""') + '"'
AIMS = (["--swap"], ["--into", "new"])


@contextmanager
def untouched(desk: Desk) -> Iterator[None]:
    """The server has the same databases afterwards, the live one the same content, and its sessions were left alone."""
    assert desk.info is not None
    before, outside = restored.tables(desk.info), restored.props(desk.info)
    there = restored.databases(desk.info)
    with closing(connect(desk.info, application_name="application")) as application:
        yield
        assert application.execute("select 1").fetchone() == (1,)
    assert restored.databases(desk.info) == there
    assert restored.tables(desk.info) == before
    assert restored.props(desk.info) == outside


def restore(desk: Desk, *words: str, **environ: str) -> Run:
    return desk.run("restore", "--yes", "--json", *words, **environ)


def assert_refused(run: Run, code: int, *texts: str) -> None:
    assert run.code == code, run.err
    assert run.json["code"] == code
    for text in texts:
        assert text in f"{run.json['message']} {run.json['hint']}"


# --- the target -----------------------------------------------------------------------------------------------------


def test_into_a_database_that_exists(any_filled: Desk) -> None:
    assert any_filled.info is not None
    any_filled.backup()
    other = restored.create(any_filled.info, "new")
    with closing(connect(other)) as connection:
        connection.execute("create table precious as select 1 as i")
    was = restored.tables(other)
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--into", "new"), 17, "'new' exists")
        assert_refused(restore(any_filled, "--into", restored.NAME), 17)
        assert_refused(restore(any_filled, "--into", "template1"), 17)
    assert restored.tables(other) == was


def test_into_a_name_that_the_server_would_cut(any_filled: Desk) -> None:
    any_filled.backup()
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--into", "ü" * 32), 2, "63 bytes")
        # Cut, it would be the name of a database that exists.
        assert_refused(restore(any_filled, "--into", "x" * 64), 2, "63 bytes")


def test_a_prepared_transaction_in_the_live_database(any_filled: Desk) -> None:
    any_filled.backup()
    assert any_filled.info is not None
    with closing(connect(any_filled.info)) as connection:
        connection.execute("begin")
        connection.execute("insert into word values ('new')")
        connection.execute("prepare transaction 'gid ü'")
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--swap"), 17, "gid ü", "ROLLBACK PREPARED")
    assert restored.column(any_filled.info, "select gid from pg_prepared_xacts") == ["gid ü"]


# --- rights ---------------------------------------------------------------------------------------------------------


def as_role(desk: Desk, role: str, words: str = "") -> Desk:
    """The same desk, connecting as a new role."""
    assert desk.info is not None
    desk.sql(f'create role "{role}" login {words}', dbname="postgres")
    return replace(desk, info=replace(desk.info, user=role))


@pytest.mark.parametrize("aim", AIMS)
def test_a_role_without_createdb(any_filled: Desk, aim: list[str]) -> None:
    any_filled.backup()
    role = as_role(any_filled, "no right's")
    any_filled.sql(f'alter database {QUOTED} owner to "no right\'s"', dbname="postgres")
    with untouched(any_filled):
        assert_refused(restore(role, *aim), 7, "no right's", "CREATEDB")


def test_a_role_that_does_not_own_the_live_database(any_filled: Desk) -> None:
    any_filled.backup()
    role = as_role(any_filled, "creator", "createdb")
    with untouched(any_filled):
        assert_refused(restore(role, "--swap"), 7, "creator", "owner")


def test_an_owner_with_createdb_is_enough(live: Desk) -> None:
    """As on the servers of hosting companies, where nobody is superuser."""
    role = as_role(live, "app", "createdb")
    live.sql(f"alter database {QUOTED} owner to app", dbname="postgres")
    live.sql("alter schema public owner to app")
    restored.desk_with_rows(role)
    assert role.info is not None
    before, outside = restored.tables(role.info), restored.props(role.info)
    role.backup()
    role.sql("drop table r", "delete from t")

    run = restore(role, "--swap")

    assert run.code == 0, run.err
    assert restored.tables(role.info) == before
    assert restored.props(role.info) == outside
    assert role.run("restore.undo", "--yes").code == 0
    assert restored.tables(role.info)["public.t"].rows == 0
    for kept in role.run("restore.kept", "--json").json["kept"]:
        assert role.run("restore.drop-old", kept["name"], "--yes").code == 0
    assert [name for name in restored.databases(role.info) if name.startswith("Na")] == [restored.NAME]


def test_sessions_of_a_superuser_that_an_owner_may_not_end(any_live: Desk) -> None:
    role = as_role(any_live, "app", "createdb")
    any_live.sql(f"alter database {QUOTED} owner to app", dbname="postgres")
    any_live.sql("alter schema public owner to app")
    restored.desk_with_rows(role)
    role.backup()
    with untouched(any_live):  # which is one: it is the superuser's
        assert_refused(restore(role, "--swap"), 7, "application")


# --- the server -----------------------------------------------------------------------------------------------------


def between(servers: Servers, tmp_path: Path, older: int, newer: int) -> tuple[ScratchServer, ScratchServer]:
    if not {older, newer} <= set(installations()):
        pytest.skip(f"needs PostgreSQL {older} and {newer}")
    return servers.get(older), servers.get(newer)


def test_a_backup_of_a_newer_major(servers: Servers, tmp_path: Path) -> None:
    older, newer = between(servers, tmp_path, 15, 16)
    with restored.swept(older.info), restored.swept(newer.info):
        there = restored.desk_with_rows(Desk(tmp_path, restored.create(newer.info, restored.NAME)))
        there.backup()
        here = Desk(tmp_path, restored.create(older.info, restored.NAME))
        with untouched(here):
            assert_refused(restore(here, "--swap"), 17, "PostgreSQL 16", "15")


def test_a_backup_of_an_older_major_goes_into_a_newer(servers: Servers, tmp_path: Path) -> None:
    older, newer = between(servers, tmp_path, 15, 18)
    with restored.swept(older.info), restored.swept(newer.info):
        there = restored.desk_with_rows(Desk(tmp_path, restored.create(older.info, restored.NAME)))
        there.backup()
        assert there.info is not None
        here = Desk(tmp_path, newer.info.with_dbname(restored.NAME))
        assert here.info is not None
        run = restore(here, "--swap")
        assert run.code == 0, run.err
        assert restored.tables(here.info) == restored.tables(there.info)


@pytest.mark.parametrize("aim", AIMS)
def test_an_extension_that_the_server_does_not_have(servers: Servers, tmp_path: Path, aim: list[str]) -> None:
    older, newer = between(servers, tmp_path, 15, 16)
    if restored.column(newer.info, "select 1 from pg_available_extensions where name = 'hstore'"):
        pytest.skip("PostgreSQL 16 has hstore here")
    with restored.swept(older.info), restored.swept(newer.info):
        there = restored.desk_with_rows(Desk(tmp_path, restored.create(older.info, restored.NAME)))
        there.sql("create extension hstore")
        there.backup()
        here = restored.desk_with_rows(Desk(tmp_path, restored.create(newer.info, restored.NAME)))
        with untouched(here):
            assert_refused(restore(here, *aim), 17, "hstore")


# --- the backup -----------------------------------------------------------------------------------------------------


def test_a_backup_that_was_found_bad(any_filled: Desk) -> None:
    backup = any_filled.backup()
    backup.add_record("failed", grade="read", problems=["a bit has flipped"])
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--swap", "--backup", backup.id), 13, "a bit has flipped")
        assert_refused(restore(any_filled, "--swap"), 11)  # latest never means a bad one


def test_which_backup(any_filled: Desk) -> None:
    first = any_filled.backup(label="pre")
    any_filled.backup()
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--swap", "--backup", "19990101T000000Z-000000"), 11)
        assert_refused(restore(any_filled, "--swap", "--backup", "no such label"), 11)
        assert_refused(restore(any_filled, "--swap", "--backup", first.id[:4]), 12, first.id)
        assert_refused(restore(any_filled, "--backup", "pre"), 2)
        assert_refused(restore(any_filled, "--swap", "--into", "new"), 2)
    assert restore(any_filled, "--swap", "--backup", "pre").json["backup"] == first.id


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"kind": "schema"}, "no rows"),
        ({"parts": {"tables": ["t"]}}, "only"),
        ({"parts": {"exclude_table_data": ["r"]}}, "public.r"),
    ],
)
def test_a_backup_of_a_part_does_not_replace_the_whole(any_filled: Desk, request_: dict[str, Any], text: str) -> None:
    assert any_filled.info is not None
    backup = any_filled.backup(**request_)
    with untouched(any_filled):
        assert_refused(restore(any_filled, "--swap"), 17, text)
    before = restored.tables(any_filled.info)
    rows = {fact.qualified: fact.rows or 0 for fact in backup.sound.tables}

    run = restore(any_filled, "--swap", "--partial")

    assert run.code == 0, run.err
    after = restored.tables(any_filled.info)
    assert {name: digest.rows for name, digest in after.items()} == dict.fromkeys(before, 0) | rows


def rewritten(backup: Backup, folder: Path, change: Callable[[Manifest], None]) -> None:
    """Make a manifest that fits its own checksum but not the rest."""
    change(backup.sound)
    (folder / "manifest.json").write_bytes(backup.sound.to_json())


def table_file(backup: Backup, folder: Path, name: str) -> Path:
    fact = next(fact for fact in backup.sound.tables if fact.name == name)
    return folder / str(fact.file)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def flipped_in_the_middle(backup: Backup, folder: Path) -> None:
    path = table_file(backup, folder, "t")
    flip(path, path.stat().st_size // 2)


def truncated(backup: Backup, folder: Path) -> None:
    path = table_file(backup, folder, "t")
    path.write_bytes(path.read_bytes()[:-1])


def removed(backup: Backup, folder: Path) -> None:
    table_file(backup, folder, "t").unlink()


def contents_flipped(backup: Backup, folder: Path) -> None:
    flip(folder / backup.sound.archive / "toc.dat", -20)


def one_row_more_promised(backup: Backup, folder: Path) -> None:
    def change(manifest: Manifest) -> None:
        at = next(i for i, fact in enumerate(manifest.tables) if fact.name == "t")
        manifest.tables[at] = replace(manifest.tables[at], rows=(manifest.tables[at].rows or 0) + 1)

    rewritten(backup, folder, change)


def a_table_more_promised(backup: Backup, folder: Path) -> None:
    rewritten(backup, folder, lambda m: m.tables.append(replace(m.tables[0], name="lost")))


def manifest_edited(backup: Backup, folder: Path) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    raw["rows"] += 1
    path.write_text(json.dumps(raw))


DAMAGES: dict[Callable[[Backup, Path], None], str] = {
    flipped_in_the_middle: "",
    truncated: "bytes, not",
    removed: "is missing",
    contents_flipped: "toc.dat",
    one_row_more_promised: "public.t has 100 rows, not 101",
    a_table_more_promised: "public.lost is missing",
    manifest_edited: "checksum",
}


@pytest.mark.parametrize("aim", AIMS, ids=["swap", "into"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_leaves_nothing(any_filled: Desk, damage: Callable[[Backup, Path], None], aim: list[str]) -> None:
    backup = any_filled.backup()
    damage(backup, any_filled.path(backup))
    any_filled.sql("update word set w = 'new'")
    with untouched(any_filled):
        assert_refused(restore(any_filled, *aim, "--backup", backup.id), 13, DAMAGES[damage])


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_damage_that_loads_without_complaint_is_found_by_its_hash(any_filled: Desk, format_: str) -> None:
    """The rows are as many as promised, and of another content."""
    backup = any_filled.backup(backup__format=format_, backup__compression="none")
    folder = any_filled.path(backup)
    path = table_file(backup, folder, "word") if format_ == "directory" else folder / backup.sound.archive
    content = path.read_bytes()
    assert content.count(b"old\n") == 1
    path.write_bytes(content.replace(b"old\n", b"odd\n"))
    for aim in AIMS:
        with untouched(any_filled):
            assert_refused(restore(any_filled, *aim), 13, path.name)
