"""Checks of what lies on the disk. Plain backups, which need no tools; the other formats and grade restore need a server."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from naap_ops.backup.manifest import FILE_NAME, FileFact, TableFact
from naap_ops.backup.repository import Backup, Repository
from naap_ops.backup.verify import Report, file_problems, verify
from naap_ops.errors import BackupDamaged, BackupNotFound

Publish = Callable[..., Backup]


def check(backup: Backup, grade: str = "read", **options: Any) -> Report:
    return verify(backup, grade, None, None, jobs=2, **options)


def folder(backup: Backup) -> Path:
    return Path(backup.url)


def reread(repository: Repository, backup: Backup) -> Backup:
    return repository.find(backup.id, backup.alias)


def rewrite(backup: Backup, **changes: Any) -> None:
    """Another manifest, with its checksum: as if the backup had been made like this."""
    assert backup.manifest is not None
    backup.manifest = dataclasses.replace(backup.manifest, **changes)
    (folder(backup) / FILE_NAME).write_bytes(backup.manifest.to_json())


@pytest.mark.parametrize(("grade", "rows"), [("hash", 0), ("read", 2)])
def test_a_sound_backup(repository: Repository, publish: Publish, grade: str, rows: int) -> None:
    backup = publish()
    report = check(backup, grade)
    assert report.sound
    assert (report.id, report.grade, report.files, report.tables, report.rows) == (backup.id, grade, 3, 1, rows)
    assert report.bytes == backup.sound.bytes
    (record,) = reread(repository, backup).records
    assert (record.what, record.data["grade"], record.data["problems"]) == ("verified", grade, [])
    assert reread(repository, backup).state == "read"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Ada", b"Eva"))


def _add(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda f: _truncate(f / "backup.sql"), "backup.sql has 215 bytes, not 216"),
    "changed": (lambda f: _change(f / "backup.sql"), "backup.sql has another hash"),
    "missing": (lambda f: (f / "globals.sql").unlink(), "globals.sql is missing"),
    "sums missing": (lambda f: (f / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    "sums changed": (lambda f: (f / "SHA256SUMS").write_bytes(b""), "SHA256SUMS has 0 bytes, not 155"),
    "extra": (lambda f: (f / "more.sql").touch(), "more.sql is not in the manifest"),
    "extra below": (lambda f: _add(f / "data" / "1.dat"), "data/1.dat is not in the manifest"),
}


@pytest.mark.parametrize("name", sorted(DAMAGE))
@pytest.mark.parametrize("grade", ["hash", "read"])
def test_damage_is_found_told_and_remembered(repository: Repository, publish: Publish, name: str, grade: str) -> None:
    backup = publish()
    damage, problem = DAMAGE[name]
    damage(folder(backup))
    report = check(backup, grade)
    assert report.problems == [problem]
    assert not report.sound
    found = reread(repository, backup)
    assert (found.state, found.records[0].what, found.records[0].data["problems"]) == ("BAD", "failed", [problem])


def test_every_flipped_bit_is_found(publish: Publish) -> None:
    backup = publish()
    path = folder(backup) / "backup.sql"
    content = path.read_bytes()
    for position in range(0, len(content) * 8, 97):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert check(backup, "hash", record=False).problems == ["backup.sql has another hash"]
    assert backup.records == []


def test_all_that_is_wrong_is_told(publish: Publish) -> None:
    backup = publish()
    (folder(backup) / "globals.sql").unlink()
    _change(folder(backup) / "backup.sql")
    (folder(backup) / "x").touch()
    assert check(backup).problems == ["backup.sql has another hash", "globals.sql is missing", "x is not in the manifest"]


def test_our_own_files_beside_the_archive_are_no_extras(publish: Publish) -> None:
    backup = publish()
    backup.add_record("kept")
    (folder(backup) / ".lock").touch()
    assert check(backup).sound
    assert check(backup).sound


def test_sums_that_disagree_with_the_manifest(publish: Publish) -> None:
    """Someone without this toolkit relies on them: a hash of the wrong sums does not make them right."""
    backup = publish()
    wrong = b"0" * 64 + b"  backup.sql\n"
    (folder(backup) / "SHA256SUMS").write_bytes(wrong)
    files = [f for f in backup.sound.files if f.path != "SHA256SUMS"]
    rewrite(backup, files=[*files, FileFact("SHA256SUMS", len(wrong), hashlib.sha256(wrong).hexdigest())])
    assert check(backup).problems == ["SHA256SUMS and the manifest disagree"]
    rewrite(backup, files=files)
    (folder(backup) / "SHA256SUMS").unlink()
    assert check(backup).problems == ["SHA256SUMS and the manifest disagree"]


def test_only_some_files(publish: Publish) -> None:
    backup = publish()
    (folder(backup) / "globals.sql").unlink()
    (folder(backup) / "x").touch()
    assert list(file_problems(folder(backup), backup.sound, {"backup.sql"})) == []
    assert list(file_problems(folder(backup), backup.sound, {"globals.sql"})) == ["globals.sql is missing"]


# --- what a hash taken of bad bytes would not find ------------------------------------------------------------------


def _with_archive(backup: Backup, content: bytes) -> None:
    """A backup whose hashes are right, and whose archive was bad from the beginning."""
    (folder(backup) / "backup.sql").write_bytes(content)
    globals_sql = next(f for f in backup.sound.files if f.path == "globals.sql")
    files = [FileFact("backup.sql", len(content), hashlib.sha256(content).hexdigest()), globals_sql]
    sums = "".join(f"{f.sha256}  {f.path}\n" for f in files).encode()
    (folder(backup) / "SHA256SUMS").write_bytes(sums)
    rewrite(backup, files=[*files, FileFact("SHA256SUMS", len(sums), hashlib.sha256(sums).hexdigest())])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"1\tAda\n", b"", "public.users holds 1 row in the archive, 2 by the manifest"),
        (b"1\tAda\n", b"1\tAda\n\n", "public.users holds 3 rows in the archive, 2 by the manifest"),
        (b"; Type: TABLE DATA", b"; Type: TABLE", "public.users holds no rows in the archive, 2 by the manifest"),
        (b"dump complete", b"dump", "lacks the line 'PostgreSQL database dump complete'"),
        (b"\\.\n", b"", "the script ends inside the rows of users"),
    ],
)
def test_content_is_held_against_the_manifest(publish: Publish, old: bytes, new: bytes, problem: str) -> None:
    backup = publish()
    content = (folder(backup) / "backup.sql").read_bytes()
    assert content.count(old) == 1
    _with_archive(backup, content.replace(old, new))
    assert check(backup, "hash").sound
    (found,) = check(backup, "read").problems
    assert problem in found
    assert backup.bad


def test_tables_without_rows_in_the_backup_are_not_expected_there(publish: Publish) -> None:
    backup = publish()
    rewrite(backup, tables=[*backup.sound.tables, TableFact("public", "logs", 16500, "app", None)])
    assert check(backup).sound


# --- what cannot be judged ------------------------------------------------------------------------------------------


def test_a_manifest_that_cannot_be_read_is_raised_and_leaves_no_record(repository: Repository, publish: Publish) -> None:
    backup = publish()
    (folder(backup) / FILE_NAME).write_bytes(b"{")
    with pytest.raises(BackupDamaged):
        check(reread(repository, backup))
    assert not (folder(backup) / "records").exists()


def test_a_backup_removed_meanwhile_is_not_there(repository: Repository, publish: Publish) -> None:
    backup = publish()
    repository.delete(backup)
    with pytest.raises(BackupNotFound):
        check(backup)
    assert os.listdir(Path(repository.storage.url) / "app") == []


NOBODYS_VIEW = """
from pathlib import Path
from naap_ops.backup.manifest import Manifest
from naap_ops.backup.verify import file_problems
from naap_ops.errors import StorageError
folder = Path(root)
manifest = Manifest.from_json((folder / "manifest.json").read_bytes(), id="{id}")
try:
    print(list(file_problems(folder, manifest)))
except StorageError as error:
    print(error.text)
"""


def test_files_we_may_not_read_are_no_damage(publish: Publish, open_folder: Path, as_nobody: Callable[[str], str]) -> None:
    """The wrong user must not turn good backups BAD."""
    backup = publish()
    for path in folder(backup).iterdir():
        (open_folder / path.name).write_bytes(path.read_bytes())
        (open_folder / path.name).chmod(0o644)
    (open_folder / "backup.sql").chmod(0o600)
    assert as_nobody(NOBODYS_VIEW.format(id=backup.id)) == f"{open_folder}/backup.sql: Permission denied\n"


def test_a_disk_that_cannot_be_read_is_damage(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one error of reading that speaks of the file itself; no file system at hand can be made to give it."""
    backup = publish()

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("naap_ops.backup.verify.read_file", failing)
    assert "backup.sql cannot be read: Input/output error" in list(file_problems(folder(backup), backup.sound))
