"""What lies on the disk: only the owner's to read, listed and hashed for `sha256sum -c`, and without a password anywhere."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from naap_ops.backup.engines import directory
from naap_ops.backup.reading import pack
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests.conftest import PASSWORD
from tests.desk import Desk

FORMATS = ("directory", "custom", "plain")


def everything(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


@pytest.mark.parametrize("kind", ["full", "data"])
@pytest.mark.parametrize("format", FORMATS)
def test_sha256sum_agrees_and_lists_every_file(any_naap_desk: Desk, format: str, kind: str) -> None:
    folder = any_naap_desk.path(any_naap_desk.backup(kind=kind, backup__format=format, label="before it, 100% -x"))
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    listed = {line.rpartition(": ")[0] for line in checked.stdout.splitlines()}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there - listed == {"SHA256SUMS", "manifest.json"}
    assert {f["path"] for f in json.loads((folder / "manifest.json").read_bytes())["files"]} == there - {"manifest.json"}


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_owner_can_read_them(any_naap_desk: Desk, format: str) -> None:
    before = os.umask(0)
    try:
        backup = any_naap_desk.backup(backup__format=format)
        any_naap_desk.app().verify(backup, "hash")
    finally:
        os.umask(before)
    found = {p: stat.S_IMODE(p.stat().st_mode) for p in everything(any_naap_desk.repo)}
    assert len(found) > 8
    assert {p: oct(mode) for p, mode in found.items() if mode != (0o700 if p.is_dir() else 0o600)} == {}


def test_plain_scripts_are_named_as_in_the_guides(any_desk: Desk) -> None:
    backup = any_desk.backup(label="pre_migration", backup__format="plain")
    moment = backup.moment.strftime("%Y%m%d_%H%M%S")
    assert (any_desk.path(backup) / f"backup_pre_migration_{moment}.sql").is_file()
    packed = any_desk.backup(backup__format="plain", backup__compression="gzip:1")
    assert (any_desk.path(packed) / packed.sound.archive).read_bytes()[:2] == b"\x1f\x8b"
    assert packed.sound.archive == f"backup_{packed.moment.strftime('%Y%m%d_%H%M%S')}.sql.gz"


def listing(server: ScratchServer, folder: Path) -> str:
    return subprocess.run([server.bindir / "pg_restore", "--list", folder], check=True, capture_output=True, text=True).stdout


def state(info: ConnInfo) -> tuple[object, ...]:
    with connect(info) as connection:
        rows = connection.execute("select md5(string_agg(t::text, '' order by i)), count(*) from rows t").fetchone()
        objects = connection.execute(
            "select md5(string_agg(lo_get(oid), '' order by oid)) from pg_largeobject_metadata"
        ).fetchone()
    assert rows is not None
    assert objects is not None
    return *rows, *objects


@pytest.mark.parametrize("own", [True, False], ids=["ours", "pg_dump's"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_gzip_is_the_same_archive_whoever_compresses(
    desk: Desk, server: ScratchServer, monkeypatch: pytest.MonkeyPatch, jobs: int, own: bool
) -> None:
    """Names, table of contents and content; where the disk has no room for plain files, pg_dump compresses."""
    assert desk.info is not None
    desk.sql(
        "create table rows as select i, md5(i::text) from generate_series(1, 50000) i",
        "create table none (i int)",
        "select lo_from_bytea(0, decode(repeat(md5(i::text), 3000), 'hex')) from generate_series(1, 3) i",
        "select lo_create(0)",
    )
    made: list[Path] = []

    def counted(path: Path) -> Path:
        made.append(path)
        return pack(path)

    monkeypatch.setattr(directory, "pack", counted)
    if not own:
        monkeypatch.setattr(directory, "_TEXT_PER_BYTE", 1e9)
    backup = desk.backup(backup__compression="gzip:1", backup__jobs=jobs)
    folder = desk.path(backup) / "data"
    names = {p.name for p in folder.iterdir()}
    assert len(made) == (6 if own else 0)
    assert all(name.endswith(".dat.gz") for name in names if name != "toc.dat" and not name.startswith("blobs"))
    assert not any(name.endswith(".gz") for name in names if name.startswith("blobs"))
    assert len([name for name in names if name.startswith("blob_")]) == 4
    assert backup.sound.compression == "gzip:1"
    assert re.search("Compression: (gzip|1)$", listing(server, folder), re.MULTILINE)
    with connect(desk.info) as connection:
        connection.execute(f'create database "{desk.info.dbname}_2" template template0'.encode())
    other = desk.info.with_dbname(f"{desk.info.dbname}_2")
    try:
        words = ("--exit-on-error", f"--jobs={jobs}", f"--dbname={other.dbname}")
        restore = [str(server.bindir / "pg_restore"), *words, str(folder)]
        subprocess.run(restore, check=True, capture_output=True, env=os.environ | other.tool_env())
        assert state(other) == state(desk.info)
    finally:
        desk.sql(f'drop database "{other.dbname}" with (force)')


@pytest.mark.parametrize("format", FORMATS)
def test_no_password_anywhere(password_server: ScratchServer, tmp_path: Path, format: str) -> None:
    secret = "pw%41'\"\\ ü@:/?#7"
    with connect(password_server.info) as connection:
        connection.execute(b"drop role if exists backup_reader")
        connection.execute(
            f"create role backup_reader login superuser password '{secret.replace(chr(39), chr(39) * 2)}'".encode()
        )
    info = password_server.info
    desk = Desk(tmp_path, type(info)(info.host, info.port, "backup_reader", "postgres", secret))
    answer = desk.program("backup", "--json", "--format", format)
    assert answer.code == 0, answer.err
    shown = desk.program("config", "--json")
    texts = [answer.out, answer.err, shown.out, shown.err]
    for word in (secret, quote(secret, safe=""), PASSWORD, "SCRAM-SHA-256$"):
        assert not any(word in text for text in texts)
        assert [p for p in everything(desk.repo) if p.is_file() and word.encode() in p.read_bytes()] == []
    globals_sql = next(desk.repo.rglob("globals.sql")).read_text()
    assert "CREATE ROLE backup_reader" in globals_sql
    assert "PASSWORD" not in globals_sql


def test_no_password_on_any_command_line(password_server: ScratchServer, tmp_path: Path) -> None:
    """Every process of the run is looked at while it lives: /proc shows command lines to everybody."""
    desk = Desk(tmp_path, password_server.info.with_dbname("postgres"))
    seen: set[bytes] = set()
    child = desk.spawn("backup")
    while child.poll() is None:
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(line.read_bytes())
            except (FileNotFoundError, ProcessLookupError):
                continue
    assert child.communicate()[1] == "" or child.returncode == 0
    assert any(b"pg_dump\0" in words for words in seen)
    assert not any(word.encode() in words for words in seen for word in (PASSWORD, quote(PASSWORD, safe="")))
