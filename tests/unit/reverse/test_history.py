"""How a history is divided, and which migration a word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.errors import MigrationAmbiguous, MigrationNotFound
from naap_ops.reverse import files, history
from naap_ops.reverse.history import Entry


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 820])
@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_parts_are_contiguous_and_whole(count: int, jobs: int) -> None:
    parts = history.parts(count, jobs)
    assert [at for begin, end in parts for at in range(begin, end)] == list(range(count))
    assert len(parts) == min(jobs, count)


def test_later_migrations_count_more() -> None:
    (first, second) = history.parts(820, 2)
    assert first[1] - first[0] > second[1] - second[0]


def test_families_by_outcome() -> None:
    entries = [Entry("a", "proved", ["table", "column"], 0.1), Entry("b", "failed", ["column"], 0.1)]
    assert history.by_family(entries) == {
        "column": {"proved": 1, "refused": 0, "failed": 1},
        "table": {"proved": 1, "refused": 0, "failed": 0},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("20260102_b", "20260101_a", "20260101_B", "0_init", "20260103_init_more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "migration.sql").touch()
    (tmp_path / "migration_lock.toml").touch()
    (tmp_path / "20260109_without_file").mkdir()
    return tmp_path


def test_the_order_is_that_of_the_names_bytes(folder: Path) -> None:
    assert [each.name for each in files.in_folder(folder)] == [
        "0_init",
        "20260101_B",
        "20260101_a",
        "20260102_b",
        "20260103_init_more",
    ]


@pytest.mark.parametrize(
    ("ref", "name"),
    [("latest", "20260103_init_more"), ("0_init", "0_init"), ("20260102", "20260102_b"), ("more", "20260103_init_more")],
)
def test_a_word_for_a_migration(folder: Path, ref: str, name: str) -> None:
    assert files.pick(files.in_folder(folder), ref, folder).name == name


def test_words_for_none_and_for_several(folder: Path) -> None:
    with pytest.raises(MigrationNotFound, match="nosuch"):
        files.pick(files.in_folder(folder), "nosuch", folder)
    with pytest.raises(MigrationAmbiguous, match="20260101_B, 20260101_a"):
        files.pick(files.in_folder(folder), "20260101", folder)
    with pytest.raises(MigrationNotFound):
        files.pick([], "latest", folder)


@pytest.mark.parametrize("step", ["before", "record", "both"])
def test_whatever_is_killed_the_down_that_is_there_counts_as_ours(folder: Path, step: str) -> None:
    migration = files.in_folder(folder)[0]
    files.write(migration, "-- one\n", {})
    kept = migration.record.read_bytes()
    files.write(migration, "-- two\n", {})
    if step == "before":
        migration.record.write_bytes(kept)
        migration.down.write_text("-- one\n")
    elif step == "record":
        migration.down.write_text("-- one\n")
    assert not migration.edited()
    migration.down.write_text("-- mine\n")
    assert migration.edited()
