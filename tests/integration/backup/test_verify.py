"""What each grade of verification finds, and what is written down of it."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naap_ops.backup.manifest import Manifest
from naap_ops.backup.repository import Backup
from naap_ops.errors import BackupDamaged
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.url import to_url
from tests import samples
from tests.desk import Desk

FORMATS = ("directory", "custom", "plain")
POSITIONS = 30


@pytest.fixture
def everything_desk(any_desk: Desk) -> Desk:
    """One database with every kind of table."""
    any_desk.sql(samples.EVERYTHING)
    return any_desk


def flip(path: Path, position: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def problems(desk: Desk, backup: Backup, grade: str = "read") -> list[str]:
    """What a check finds, by a repository that has not seen the backup before."""
    fresh = desk.app().repository.find(backup.id, backup.alias)
    try:
        return desk.app(restore__jobs=2, **_scratch(desk)).verify(fresh, grade).problems
    except BackupDamaged as error:
        return [error.text]


def _scratch(desk: Desk) -> dict[str, Any]:
    assert desk.info is not None
    return {"scratch_url": to_url(desk.info)}


# --- bits ---------------------------------------------------------------------------------------------------------

BUILDS = [(f, c) for f in FORMATS for c in ("none", "gzip")]
MODERN = [("directory", "zstd"), ("directory", "lz4"), ("custom", "zstd"), ("custom", "lz4"), ("plain", "zstd")]


def every_flip_is_found(desk: Desk, format: str, compression: str) -> None:
    backup = desk.backup(backup__format=format, backup__compression=compression)
    assert problems(desk, backup) == []
    folder = desk.path(backup)
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.parent.name != "records" and p.stat().st_size]
    dice = random.Random(f"{format} {compression}")
    # Every file is hit, the larger ones more often.
    targets = files + dice.choices(files, [p.stat().st_size for p in files], k=max(0, POSITIONS - len(files)))
    missed = []
    for path in targets:
        position, bit = dice.randrange(path.stat().st_size), dice.randrange(8)
        flip(path, position, bit)
        if not problems(desk, backup):
            missed.append((path.name, position, bit))
        flip(path, position, bit)
        shutil.rmtree(folder / "records", ignore_errors=True)
    assert missed == []
    assert problems(desk, backup) == []


@pytest.mark.parametrize(("format", "compression"), BUILDS)
def test_every_flipped_bit_is_found(everything_desk: Desk, format: str, compression: str) -> None:
    every_flip_is_found(everything_desk, format, compression)


@pytest.mark.pg(17)
@pytest.mark.parametrize(("format", "compression"), MODERN)
def test_every_flipped_bit_is_found_in_modern_compression(desk: Desk, format: str, compression: str) -> None:
    desk.sql(samples.EVERYTHING)
    every_flip_is_found(desk, format, compression)


@pytest.mark.parametrize("format", FORMATS)
def test_reading_finds_bad_bytes_whose_hash_was_taken_after_the_damage(everything_desk: Desk, format: str) -> None:
    """What a hash cannot find: the file was bad already when it was hashed. Rows are cut out, hashes and sums made to fit."""
    backup = everything_desk.backup(backup__format=format, backup__compression="none")
    folder = everything_desk.path(backup)
    archive = folder / backup.sound.archive
    table = backup.sound.table("public", "parent")
    victim = archive if archive.is_file() or table is None else folder / str(table.file)
    content = victim.read_bytes()
    if format == "custom":
        victim.write_bytes(content[:-20])
    else:
        assert content.count(b"1\n2\n\\.\n") >= 1
        victim.write_bytes(content.replace(b"1\n2\n\\.\n", b"1\n\\.\n"))
    _hash_again(everything_desk, backup)
    assert problems(everything_desk, backup, "hash") == []
    found = problems(everything_desk, backup, "read")
    assert found
    assert format == "custom" or "holds 1 row in the archive, 2 by the manifest" in "; ".join(found)


def _hash_again(desk: Desk, backup: Backup) -> None:
    """Hashes, sizes and SHA256SUMS of what is there now."""
    from naap_ops import files

    folder = desk.path(backup)

    def facts(raw: dict[str, Any], names: list[str]) -> None:
        for fact in raw["files"]:
            if fact["path"] in names:
                fact.update(bytes=(folder / fact["path"]).stat().st_size, sha256=files.sha256(folder / fact["path"]))

    def change(raw: dict[str, Any]) -> None:
        listed = [f["path"] for f in raw["files"] if f["path"] != "SHA256SUMS"]
        facts(raw, listed)
        hashes = {f["path"]: f["sha256"] for f in raw["files"]}
        (folder / "SHA256SUMS").write_text("".join(f"{hashes[name]}  {name}\n" for name in listed))
        facts(raw, ["SHA256SUMS"])

    desk.edit(backup, change)


# --- files --------------------------------------------------------------------------------------------------------


def truncate(folder: Path, victim: Path) -> None:
    with open(victim, "r+b") as file:
        file.truncate(victim.stat().st_size // 2)


def append(folder: Path, victim: Path) -> None:
    with open(victim, "ab") as file:
        file.write(b"\0")


def remove(folder: Path, victim: Path) -> None:
    victim.unlink()


def become_a_folder(folder: Path, victim: Path) -> None:
    victim.unlink()
    victim.mkdir()


def strange_file(folder: Path, victim: Path) -> None:
    victim.with_name("9999.dat").write_bytes(b"\\.\n\n\n")


DAMAGES = [truncate, append, remove, become_a_folder, strange_file]


@pytest.mark.parametrize("grade", ["hash", "read", "restore"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("format", ["directory", "plain"])
def test_files_cut_lengthened_lost_and_added(
    everything_desk: Desk, format: str, damage: Callable[[Path, Path], None], grade: str
) -> None:
    backup = everything_desk.backup(backup__format=format)
    folder = everything_desk.path(backup)
    victim = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    damage(folder, victim)
    found = problems(everything_desk, backup, grade)
    name = "9999.dat" if damage is strange_file else victim.name
    assert len(found) == 1
    assert name in found[0]


@pytest.mark.parametrize("name", ["globals.sql", "RESTORE.md", "SHA256SUMS", "data/toc.dat"])
def test_every_file_counts(any_desk: Desk, name: str) -> None:
    backup = any_desk.backup()
    append(any_desk.path(backup), any_desk.path(backup) / name)
    assert name in problems(any_desk, backup, "hash")[0]


def test_exchanged_files(any_desk: Desk) -> None:
    """Two tables of the same size under each other's names: no size differs, and the rows add up."""
    any_desk.sql("create table a as select 1 i; create table b as select 2 i")
    backup = any_desk.backup(backup__compression="none")
    folder = any_desk.path(backup)
    first, second = (folder / str(t.file) for t in backup.sound.tables)
    texts = first.read_bytes(), second.read_bytes()
    first.write_bytes(texts[1])
    second.write_bytes(texts[0])
    assert len(problems(any_desk, backup, "hash")) == 2


def test_a_backup_under_the_name_of_another(any_desk: Desk) -> None:
    backup = any_desk.backup()
    other = any_desk.path(backup).with_name("20200101T000000Z-abcdef")
    any_desk.path(backup).rename(other)
    assert any_desk.run("backup.verify", other.name).code == 13
    assert [(b.id, b.state) for b in any_desk.listed()] == [(other.name, "BAD")]


# --- the manifest -------------------------------------------------------------------------------------------------


def test_an_edited_manifest_is_damaged(any_desk: Desk) -> None:
    backup = any_desk.backup()
    path = any_desk.path(backup) / "manifest.json"
    path.write_text(path.read_text().replace('"kind": "full"', '"kind": "data"'))
    answer = any_desk.run("backup.verify", backup.id, "--json")
    assert answer.code == 13
    assert "checksum" in answer.json["message"]
    assert [b.state for b in any_desk.listed()] == ["BAD"]
    assert any_desk.run("backup.show", "latest").code == 11  # latest never means a bad one


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"\xff", b'{"manifest_version": "x"}', b'{"manifest_version": 1}']
)
def test_what_is_no_manifest_is_damaged(any_desk: Desk, text: bytes) -> None:
    backup = any_desk.backup()
    (any_desk.path(backup) / "manifest.json").write_bytes(text)
    assert any_desk.run("backup.verify", backup.id).code == 13
    assert "BAD" in any_desk.run("backup.list").out


def test_a_manifest_of_a_newer_version_says_so(any_desk: Desk) -> None:
    backup = any_desk.backup()
    any_desk.edit(backup, lambda raw: raw.update(manifest_version=99, something="new"))
    answer = any_desk.run("backup.verify", backup.id, "--json")
    assert (answer.code, answer.json["error"]) == (14, "NewerFormat")
    assert "99" in answer.json["message"]
    assert "RESTORE.md" in answer.json["hint"]


@pytest.mark.parametrize("grade", ["read", "restore"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_manifest_that_lies_about_rows(any_desk: Desk, format: str, grade: str) -> None:
    any_desk.sql("create table t as select generate_series(1, 5) i")
    backup = any_desk.backup(backup__format=format)

    def lie(raw: dict[str, Any]) -> None:
        raw["tables"][0]["rows"] = 6

    any_desk.edit(backup, lie)
    assert problems(any_desk, backup, "hash") == []
    assert problems(any_desk, backup, grade) == ["public.t holds 5 rows in the archive, 6 by the manifest"]


# --- grade restore ------------------------------------------------------------------------------------------------


PARTS: list[dict[str, list[str]]] = [
    {"schemas": ["part"]},
    {"schemas": ["public"]},
    {"schemas": ["elsewhere"]},
    {"tables": ["part.invoice"]},
    {"tables": ["public.event"]},
]

PART_SQL = """
create schema part; create schema elsewhere;
create type public.mood as enum ('a', 'b'); create type part.kind as enum ('x');
create table public.person (id int primary key, kind part.kind default 'x');
create table part.invoice (id int primary key, person int references public.person, mood public.mood default 'a');
create view part.report as select p.* from public.person p group by p.id;
create table public.event (at date primary key) partition by range (at);
create table elsewhere.event_2026 partition of public.event for values from ('2026-01-01') to ('2027-01-01');
insert into public.person select generate_series(1, 4); insert into part.invoice select i, i from generate_series(1, 4) i;
insert into public.event select date '2026-01-01' + i from generate_series(1, 9) i;
create publication pub for table part.invoice;
"""


@pytest.mark.parametrize("kind", ["full", "data", "schema"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("parts", PARTS, ids=["part", "public", "elsewhere", "invoice", "event"])
def test_parts_that_lean_on_the_rest_load(any_desk: Desk, parts: dict[str, list[str]], format: str, kind: str) -> None:
    """Foreign keys, enums and partitions reach across schemas; rows outside the part are not there, and need not be."""
    any_desk.sql(PART_SQL)
    backup = any_desk.backup(kind=kind, parts=parts, backup__format=format)
    assert problems(any_desk, backup, "restore") == []
    rows = {t.qualified: t.rows for t in backup.sound.tables if t.rows}
    expected = {
        "part": {"part.invoice": 4},
        "public": {"public.person": 4},
        "elsewhere": {"elsewhere.event_2026": 9},
        "part.invoice": {"part.invoice": 4},
        "public.event": {"elsewhere.event_2026": 9},  # a partitioned table without its partitions would hold nothing
    }
    assert rows == ({} if kind == "schema" else expected[next(iter(parts.values()))[0]])


def test_everything_loads_in_every_format(desk: Desk) -> None:
    desk.sql(samples.EVERYTHING)
    for format, kind in itertools.product(FORMATS, ("full", "data")):
        assert problems(desk, desk.backup(kind=kind, backup__format=format), "restore") == []


def test_a_scratch_server_of_its_own(naap_desk: Desk, tmp_path: Path) -> None:
    """Without scratch_url: one is started, used and gone again."""
    backup = naap_desk.backup()
    place = tmp_path / "temporary"
    place.mkdir(mode=0o711)
    answer = naap_desk.program("backup.verify", backup.id, "--grade", "restore", "--json", environ={"TMPDIR": str(place)})
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == backup.sound.rows
    assert answer.json["ok"] is True
    assert list(place.iterdir()) == []


def test_backup_with_grade_restore_is_proved_before_it_is_told(any_desk: Desk) -> None:
    any_desk.sql("create table t as select 1 i")
    answer = any_desk.run("backup", "--verify", "restore", "--json", NAAP_OPS_SCRATCH_URL=_scratch(any_desk)["scratch_url"])
    assert (answer.code, answer.json["verified"]) == (0, "restore")


def test_data_that_breaks_a_constraint_is_found_by_restore_alone(any_desk: Desk) -> None:
    """Corruption in the original: a unique index that does not know of a duplicate. Every byte is as it was read."""
    any_desk.sql("create table t (i int primary key)", "insert into t values (1), (2)")
    any_desk.sql("update pg_index set indisready = false, indisvalid = false where indrelid = 't'::regclass")
    any_desk.sql(
        "insert into t values (2)", "update pg_index set indisready = true, indisvalid = true where indrelid = 't'::regclass"
    )
    backup = any_desk.backup()
    assert problems(any_desk, backup, "read") == []
    found = problems(any_desk, backup, "restore")
    assert "could not create unique index" in found[0]
    assert [b.state for b in any_desk.listed()] == ["BAD"]


def test_nothing_is_left_on_the_scratch_server(any_desk: Desk) -> None:
    """Neither the database nor the roles it needed, which the scratch server did not have when the backup was proved."""
    any_desk.sql("create role \"a 'role'\"", "create table t (i int); alter table t owner to \"a 'role'\"")
    backup = any_desk.backup()
    any_desk.sql("drop table t", "drop role \"a 'role'\"")
    assert problems(any_desk, backup, "restore") == []
    assert any_desk.ask("select count(*) from pg_roles where rolname = $$a 'role'$$") == 0
    assert any_desk.ask("select count(*) from pg_database where datname like 'naap_ops_proof%'") == 0


def test_an_extension_the_scratch_server_lacks_proves_nothing(any_desk: Desk) -> None:
    backup = any_desk.backup()
    any_desk.edit(backup, lambda raw: raw.update(extensions=[{"name": "nowhere", "version": "1", "schema": "public"}]))
    answer = any_desk.run(
        "backup.verify", backup.id, "--grade", "restore", NAAP_OPS_SCRATCH_URL=_scratch(any_desk)["scratch_url"]
    )
    assert answer.code == 17
    assert "no extension nowhere" in answer.err
    assert [b.state for b in any_desk.listed()] == ["read"]  # it is as good as it was


@pytest.mark.pg(15)
def test_a_collation_the_scratch_server_lacks_proves_nothing(desk: Desk, servers: Any) -> None:
    """ICU in the original, none in the scratch server: that is no fault of the backup."""
    other: ScratchServer = servers.get(16)
    if desk.ask("select count(*) from pg_collation where collname = 'und-x-icu'") == 0:
        pytest.skip("this server has no ICU")
    if Desk(desk.folder, other.info).ask("select count(*) from pg_collation where collname = 'und-x-icu'"):
        pytest.skip("the scratch server has ICU")
    desk.sql('create table t (name text collate "und-x-icu")')
    backup = desk.backup()
    answer = desk.run("backup.verify", backup.id, "--grade", "restore", NAAP_OPS_SCRATCH_URL=to_url(other.info))
    assert answer.code == 17, answer.err
    assert "und-x-icu" in answer.err
    assert [b.state for b in desk.listed()] == ["read"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
@pytest.mark.parametrize("format", FORMATS)
def test_other_encodings(any_server: ScratchServer, tmp_path: Path, format: str, encoding: str) -> None:
    name = f"test_{encoding.lower()}_{format}"
    desk = Desk(tmp_path, any_server.info.with_dbname(name))
    desk.sql(f"create database {name} encoding '{encoding}' locale 'C' template template0", dbname="postgres")
    word = {"LATIN1": "größe", "SQL_ASCII": "größe", "EUC_JP": "大きさ"}[encoding]
    try:
        desk.sql(f'create table "{word}" (t text)', f"""insert into "{word}" values ('{word}'), ('b')""")
        backup = desk.backup(backup__format=format)
        assert {t.qualified: t.rows for t in backup.sound.tables} == {f"public.{word}": 2}
        assert backup.sound.database["encoding"] == encoding
        assert problems(desk, backup, "restore") == []
    finally:
        desk.sql(f"drop database {name} with (force)", dbname="postgres")


# --- what is written down -----------------------------------------------------------------------------------------


def test_records_and_the_way_back(any_desk: Desk) -> None:
    backup = any_desk.backup()
    victim = any_desk.path(backup) / "globals.sql"
    original = victim.read_bytes()
    append(any_desk.path(backup), victim)
    answer = any_desk.run("backup.verify", backup.id, "--grade", "hash", "--json")
    assert (answer.code, answer.json["code"], answer.json["error"]) == (13, 13, "BackupDamaged")
    assert "globals.sql" in answer.json["message"]
    listed = any_desk.run("backup.list", "--json").json["backups"][0]
    assert (listed["bad"], listed["verified"]) == (True, "none")
    assert "BAD" in any_desk.run("backup.list").out
    shown = any_desk.run("backup.show", backup.id).out
    assert "failed at grade hash" in shown
    assert "globals.sql" in shown
    victim.write_bytes(original)
    assert any_desk.run("backup.verify", backup.id).code == 0
    assert [b.state for b in any_desk.listed()] == ["read"]
    records = [json.loads(p.read_bytes()) for p in (any_desk.path(backup) / "records").iterdir()]
    assert [record["what"] for record in sorted(records, key=lambda r: str(r["at"]))] == ["failed", "verified"]


def test_manifests_are_never_rewritten(any_desk: Desk) -> None:
    backup = any_desk.backup()
    path = any_desk.path(backup) / "manifest.json"
    before = path.read_bytes()
    for words in (("backup.verify", backup.id), ("backup.keep", backup.id), ("backup.keep", backup.id, "--release")):
        assert any_desk.run(*words).code == 0
    assert path.read_bytes() == before
    assert Manifest.from_json(before, id=backup.id).to_json() == before


def test_a_tool_that_is_killed_says_nothing_about_the_backup(any_desk: Desk, tmp_path: Path) -> None:
    backup = any_desk.backup(backup__format="custom")
    bindir = any_desk.app().target(None).tools.bindir
    assert bindir is not None
    stand_in = tmp_path / "bin"
    stand_in.mkdir()
    for tool in ("pg_dump", "psql"):
        (stand_in / tool).symlink_to(bindir / tool)
    (stand_in / "pg_restore").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec "{bindir}/pg_restore" --version\nkill -9 $$\n'
    )
    (stand_in / "pg_restore").chmod(0o755)
    answer = any_desk.run("backup.verify", backup.id, NAAP_OPS_TOOLS__BINDIR=str(stand_in))
    assert answer.code == 20
    assert [b.state for b in any_desk.listed()] == ["read"]


def test_stock_tools_agree_with_grade_read(everything_desk: Desk) -> None:
    """`pg_restore -f /dev/null` and `sha256sum -c` on the same folder."""
    folder = everything_desk.path(everything_desk.backup())
    bindir = everything_desk.app().target(None).tools.bindir
    assert subprocess.run([f"{bindir}/pg_restore", "-f", "/dev/null", folder / "data"], check=False).returncode == 0
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_connection_info_is_not_needed_to_verify(any_desk: Desk) -> None:
    backup = any_desk.backup()
    nobody = Desk(any_desk.folder, None)
    assert nobody.run("backup.verify", backup.id).code == 0
    assert isinstance(any_desk.info, ConnInfo)


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_hashes_of_what_is_encrypted_need_no_identity(any_desk: Desk, format_: str) -> None:
    """The encrypted files are compared as they lie there, which is said; with the identity it is what they hold."""
    pyrage = pytest.importorskip("pyrage")
    secret = pyrage.x25519.Identity.generate()
    (any_desk.folder / "key.txt").write_text(f"{secret}\n")
    any_desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = str(secret.to_public())
    backup = any_desk.backup(backup__format=format_)
    words = ("backup.verify", backup.id, "--grade", "hash")
    stored = any_desk.run(*words, "--json")
    assert (stored.code, stored.json["compared"]) == (0, "stored files"), stored.err
    assert "as stored" in any_desk.run(*words).out
    assert any_desk.run("backup.verify", backup.id, "--json").json["error"] == "IdentityMissing"
    opened = any_desk.run(*words, "--json", NAAP_OPS_ENCRYPTION__IDENTITY_FILE=str(any_desk.folder / "key.txt"))
    assert (opened.code, opened.json["compared"]) == (0, "files"), opened.err
    records = [json.loads(p.read_bytes()) for p in (any_desk.path(backup) / "records").iterdir()]
    assert sorted(record["compared"] for record in records) == ["files", "stored files", "stored files"]

    victim = max(any_desk.path(backup).rglob("*.age"), key=lambda path: path.stat().st_size)
    victim.chmod(0o600)
    flipped = bytearray(victim.read_bytes())
    flipped[-1] ^= 1
    victim.write_bytes(flipped)
    answer = any_desk.run(*words, "--json")
    assert (answer.code, answer.json["error"]) == (13, "BackupDamaged")
    assert f"{victim.name} has another hash" in answer.json["message"]
    assert any_desk.listed()[0].bad
