"""Which backups there are, which one a name means, and what later records make of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops import clock
from naap_ops.backup.manifest import FILE_NAME, VERSION, Scope
from naap_ops.backup.repository import ID, Backup, Repository, folder_of
from naap_ops.errors import BackupAmbiguous, BackupDamaged, BackupNotFound, NewerFormat, StorageError

Publish = Callable[..., Backup]
MONDAY, TUESDAY, WEDNESDAY = "20261116T030000Z-aaaaaa", "20261117T030000Z-bbbbbb", "20261118T030000Z-cccccc"


def root(repository: Repository) -> Path:
    return Path(repository.storage.url)


def ids(repository: Repository, alias: str | None = None) -> list[str]:
    return [backup.id for backup in repository.backups(alias)]


def again(repository: Repository, backup: Backup) -> Backup:
    """The same backup as somebody else reads it."""
    return next(b for b in repository.backups(backup.alias) if b.id == backup.id)


# --- names --------------------------------------------------------------------------------------------------------


def test_ids_sort_by_time_and_are_never_the_same() -> None:
    moment = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)
    made = [clock.new_id(moment + timedelta(milliseconds=number)) for number in range(1000)]
    assert len(set(made)) == 1000
    assert made == sorted(made)
    assert all(ID.fullmatch(id) and id.startswith("20261121T031500Z-") for id in made)
    assert len({clock.new_id(moment) for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("alias", "folder"),
    [
        ("app", "app"),
        ("App_2.0-x", "App_2.0-x"),
        ("with space", "with%20space"),
        ("a/b", "a%2Fb"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("100%", "100%25"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("~root", "%7Eroot"),
        ('x"; drop', "x%22%3B%20drop"),
        ("x.partial", "x%2Epartial"),
        (".partial", "%2Epartial"),
    ],
)
def test_the_folder_of_a_database(alias: str, folder: str) -> None:
    assert folder_of(alias) == folder


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
)
def test_every_database_has_a_folder_of_its_own(one: str, other: str) -> None:
    folder = folder_of(one)
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*", folder)
    assert not folder.endswith(".partial")
    assert (folder == folder_of(other)) == (one == other)


@pytest.mark.parametrize("alias", ["a b", "a/b", "..", ".x", "ü" * 31 + "x", "%41", "A", "x.partial", "records", '"', "a\nb"])
def test_backups_of_any_database_are_found_again(repository: Repository, publish: Publish, alias: str) -> None:
    backup = publish(alias, MONDAY)
    assert repository.aliases() == [alias]
    assert [(b.alias, b.id) for b in repository.backups()] == [(alias, MONDAY)]
    assert repository.find("latest", alias).id == MONDAY
    backup.add_record("kept")
    assert again(repository, backup).kept
    repository.delete(backup)
    assert repository.backups() == []


# --- listing ------------------------------------------------------------------------------------------------------


def test_listing_is_newest_first_and_by_exact_database(repository: Repository, publish: Publish) -> None:
    publish("app", TUESDAY)
    publish("app_staging", WEDNESDAY)
    publish("app", MONDAY)
    publish("app", WEDNESDAY)
    assert ids(repository, "app") == [WEDNESDAY, TUESDAY, MONDAY]
    assert ids(repository, "app_staging") == [WEDNESDAY]
    assert ids(repository, "ap") == []
    assert ids(repository, "") == []
    assert ids(repository) == [WEDNESDAY, WEDNESDAY, TUESDAY, MONDAY]
    assert repository.aliases() == ["app", "app_staging"]


def test_an_empty_or_missing_repository_has_no_backups(repository: Repository) -> None:
    assert repository.backups() == []
    assert repository.aliases() == []
    assert repository.sweep("app") == []
    with pytest.raises(BackupNotFound):
        repository.find("latest", "app")


def test_what_is_not_published_is_not_listed(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    writing = repository.begin("app", TUESDAY)
    (writing.path / FILE_NAME).write_bytes(b"{}")
    unfinished = root(repository) / "app" / WEDNESDAY
    unfinished.mkdir()
    (unfinished / "backup.sql").write_bytes(b"")
    assert ids(repository) == [MONDAY]
    assert repository.sweep("app") == []
    writing.abandon()


def test_other_peoples_files_are_neither_listed_nor_touched(repository: Repository, publish: Publish) -> None:
    backup = publish("app", MONDAY)
    foreign = ["README", "app/notes.txt", "app/old/manifest.json", "app/20261116/manifest.json", "lost+found/x", "gr öße/x"]
    foreign += [f"app/{MONDAY}.old/manifest.json", f"gr%c3%b6/{MONDAY}/manifest.json"]
    for name in foreign:
        (root(repository) / name).parent.mkdir(parents=True, exist_ok=True)
        (root(repository) / name).write_text("{}")
    assert [(b.alias, b.id) for b in repository.backups()] == [("app", MONDAY)]
    assert repository.aliases() == ["app"]
    repository.sweep("app")
    repository.delete(backup)
    assert all((root(repository) / name).read_text() == "{}" for name in foreign)


def test_an_unreadable_manifest_is_listed_as_bad_with_its_reason(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("app", TUESDAY, manifest_version=VERSION + 1)
    publish("app", WEDNESDAY)
    (root(repository) / "app" / WEDNESDAY / FILE_NAME).write_bytes(b"{")
    newest, newer, good = repository.backups("app")
    assert [b.state for b in (newest, newer, good)] == ["BAD", "BAD", "read"]
    for backup, kind in ((newest, BackupDamaged), (newer, NewerFormat)):
        with pytest.raises(kind):
            _ = backup.sound
        assert not backup.verified
    assert repository.find("latest", "app").id == MONDAY


# --- finding ------------------------------------------------------------------------------------------------------


def test_latest_is_the_newest_good_one_of_exactly_that_database(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("app", TUESDAY).add_record("failed", grade="read")
    publish("app_staging", WEDNESDAY)
    assert repository.find("latest", "app").id == MONDAY
    with pytest.raises(BackupNotFound, match="no backup 'latest' of database 'ap'"):
        repository.find("latest", "ap")
    with pytest.raises(BackupAmbiguous, match="databases app, app_staging") as caught:
        repository.find("latest", None)
    assert "--database" in caught.value.advice


def test_that_all_there_are_is_bad_is_said(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY, label="nightly").add_record("failed", grade="read")
    for ref in ("latest", "nightly"):
        with pytest.raises(BackupNotFound) as caught:
            repository.find(ref, "app")
        assert "nothing but BAD ones (1)" in caught.value.advice
    with pytest.raises(BackupNotFound) as caught:
        repository.newest("app")
    assert "nothing but BAD ones (1)" in caught.value.advice
    with pytest.raises(BackupNotFound) as caught:
        repository.find("weekly", "app")
    assert "BAD" not in caught.value.advice


def test_latest_without_a_name_is_clear_where_there_is_one_database(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("app", TUESDAY)
    assert repository.find("latest", None).id == TUESDAY


def test_the_newest_is_of_the_whole_database_where_one_is(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("app", TUESDAY, scope=Scope(schemas=["tenant_a"]))
    publish("app", WEDNESDAY, kind="schema")
    publish("other", TUESDAY, scope=Scope(schemas=["tenant_a"]))
    assert repository.newest("app").id == MONDAY
    assert repository.newest("other").id == TUESDAY
    with pytest.raises(BackupAmbiguous):
        repository.newest(None)


def test_an_id_or_a_unique_beginning_of_one(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("app", TUESDAY).add_record("failed", grade="hash")
    publish("other", WEDNESDAY)
    for ref in (MONDAY, MONDAY[:-1], "20261116"):
        assert repository.find(ref, "app").id == MONDAY
    assert repository.find("20261117", "app").id == TUESDAY, "asked for by its id, a BAD one is found too"
    assert repository.find("20261118", None).alias == "other"
    with pytest.raises(BackupNotFound):
        repository.find("20261118", "app")
    with pytest.raises(BackupAmbiguous, match=f"'2026' fits 2 backups: {TUESDAY}, {MONDAY}"):
        repository.find("2026", "app")
    with pytest.raises(BackupNotFound):
        repository.find("26111", "app")


def test_a_whole_id_is_not_ambiguous_with_itself(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    publish("copy", MONDAY)
    assert repository.find(MONDAY, "copy").alias == "copy"
    with pytest.raises(BackupAmbiguous):
        repository.find(MONDAY, None)


@pytest.mark.parametrize("label", ["pre_migration", "2026-release", "20261199", "größe 1"])
def test_a_label_means_the_newest_good_backup_that_bears_it(repository: Repository, publish: Publish, label: str) -> None:
    publish("app", MONDAY, label=label)
    publish("app", TUESDAY, label=label)
    publish("app", WEDNESDAY, label=label).add_record("failed", grade="hash")
    assert repository.find(label, "app").id == TUESDAY
    with pytest.raises(BackupNotFound):
        repository.find(label[:-1], "app")
    with pytest.raises(BackupNotFound):
        repository.find(label.upper() + "x", "app")
    publish("other", MONDAY, label=label)
    with pytest.raises(BackupAmbiguous, match="databases app, other"):
        repository.find(label, None)


def test_no_name_at_all_means_no_backup(repository: Repository, publish: Publish) -> None:
    """As when a script's variable is empty: it must not mean the newest without a label."""
    publish("app", MONDAY, label="")
    for ref in ("", " "):
        with pytest.raises(BackupNotFound):
            repository.find(ref, "app")


# --- records ------------------------------------------------------------------------------------------------------


def test_records_are_read_back_in_the_order_they_were_made(repository: Repository, publish: Publish) -> None:
    backup = publish()
    for number in range(20):
        backup.add_record("released" if number % 2 else "kept", number=number)
    found = again(repository, backup)
    assert [record.data["number"] for record in found.records] == list(range(20))
    assert found.records == backup.records
    assert not found.kept
    assert {path.stat().st_mode & 0o777 for path in (root(repository) / backup.prefix / "records").iterdir()} == {0o600}


def test_keeping_and_releasing(repository: Repository, publish: Publish) -> None:
    backup = publish()
    assert not backup.kept
    for what, kept in (("kept", True), ("verified", True), ("released", False), ("kept", True)):
        backup.add_record(what, grade="hash")
        assert backup.kept is kept
        assert again(repository, backup).kept is kept


CHECKS: list[tuple[list[tuple[str, str]], str]] = [
    ([], "read"),
    ([("verified", "hash")], "read"),
    ([("verified", "restore")], "restore"),
    ([("verified", "restore"), ("verified", "hash")], "restore"),
    ([("failed", "hash")], "BAD"),
    ([("verified", "restore"), ("failed", "hash")], "BAD"),
    ([("failed", "hash"), ("verified", "hash")], "read"),
    ([("failed", "hash"), ("verified", "restore")], "restore"),
    ([("failed", "restore"), ("verified", "hash")], "BAD"),
    ([("failed", "restore"), ("verified", "read")], "BAD"),
    ([("failed", "restore"), ("verified", "read"), ("verified", "restore")], "restore"),
    ([("failed", "read"), ("failed", "hash"), ("verified", "hash")], "BAD"),
]


@pytest.mark.parametrize(("checks", "state"), CHECKS)
def test_a_failed_check_is_only_undone_by_one_as_hard(
    repository: Repository, publish: Publish, checks: list[tuple[str, str]], state: str
) -> None:
    backup = publish()
    for what, grade in checks:
        backup.add_record(what, grade=grade)
    for seen in (backup, again(repository, backup)):
        assert seen.state == state
        assert seen.bad == (state == "BAD")
        assert seen.grade == ("none" if seen.bad else state)
        assert seen.verified == (not seen.bad)


@pytest.mark.parametrize(("grade", "verified"), [("none", False), ("hash", False), ("read", True), ("restore", True)])
def test_the_check_before_publishing_counts(publish: Publish, grade: str, verified: bool) -> None:
    backup = publish(verified={"grade": grade, "at": "2026-11-21T03:15:01.000Z", "by": "x"})
    assert (backup.grade, backup.verified, backup.bad) == (grade, verified, False)


@pytest.mark.parametrize("what", ["verified", "failed"])
def test_a_grade_of_a_later_version(repository: Repository, publish: Publish, what: str) -> None:
    """An unknown grade proves nothing, but its failure counts."""
    backup = publish()
    backup.add_record(what, grade="replay")
    assert again(repository, backup).state == ("read" if what == "verified" else "BAD")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"what": 1}'])
def test_a_record_that_cannot_be_read_is_what_its_name_says(repository: Repository, publish: Publish, content: bytes) -> None:
    """So that a spoilt pin still pins, a spoilt failure still fails, and a spoilt success does not condemn a good backup."""
    for what, id in (("kept", MONDAY), ("failed", TUESDAY), ("verified", WEDNESDAY)):
        backup = publish("app", id)
        backup.add_record(what, grade="restore")
        (record,) = (root(repository) / backup.prefix / "records").iterdir()
        record.write_bytes(content)
    verified, failed, kept = repository.backups("app")
    assert (kept.kept, kept.state) == (True, "read")
    assert failed.state == "BAD"
    assert verified.state == "read"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", b.records[0].at) for b in (kept, failed, verified))


def test_other_files_among_the_records_are_no_records(repository: Repository, publish: Publish) -> None:
    backup = publish()
    backup.add_record("kept")
    for name in ("notes.txt", ".DS_Store", "kept.json", "x-failed.json"):
        (root(repository) / backup.prefix / "records" / name).write_bytes(b"\0")
    assert [record.what for record in again(repository, backup).records] == ["kept"]


def test_a_removed_backup_takes_no_records(repository: Repository, publish: Publish) -> None:
    """A long check may end after the backup was pruned: its record must not leave a folder that nobody sweeps."""
    backup = publish()
    repository.delete(backup)
    with pytest.raises(BackupNotFound):
        backup.add_record("verified", grade="read")
    assert os.listdir(root(repository) / "app") == []


def test_what_a_record_holds(repository: Repository, publish: Publish) -> None:
    backup = publish()
    made = backup.add_record("failed", grade="hash", problems=["größe"])
    (path,) = (root(repository) / backup.prefix / "records").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f-]+-failed\.json", path.name)
    assert json.loads(path.read_text()) == {"at": made.at, "what": "failed", "grade": "hash", "problems": ["größe"]}


# --- groups and removal -------------------------------------------------------------------------------------------


def test_backups_of_the_same_thing_are_one_group(publish: Publish) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"label": "x", "format": "custom"},
        {"kind": "schema"},
        {"scope": Scope(schemas=["a", "b"])},
        {"scope": Scope(schemas=["a, schema b"])},
        {"scope": Scope(tables=["a.b"])},
        {"scope": Scope(exclude_table_data=["a.b"])},
    ]
    groups = [publish("app", f"2026111{n}T030000Z-aaaaaa", **fields).group for n, fields in enumerate(changes)]
    assert groups[0] == groups[1]
    assert len(set(groups)) == len(groups) - 1
    assert publish("other", MONDAY).group != groups[0]


def test_deleting_takes_one_backup(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    gone = publish("app", TUESDAY)
    gone.add_record("kept")
    repository.delete(gone)
    assert ids(repository) == [MONDAY]
    assert sorted(p.name for p in (root(repository) / "app").iterdir()) == [MONDAY]


def test_the_moment_is_that_of_the_id(publish: Publish) -> None:
    assert publish("app", MONDAY).moment == datetime(2026, 11, 16, 3, tzinfo=UTC)


def test_an_id_is_used_once(repository: Repository, publish: Publish) -> None:
    publish("app", MONDAY)
    with pytest.raises(StorageError, match="never overwritten"):
        repository.begin("app", MONDAY)
