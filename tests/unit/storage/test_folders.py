"""Private folders for transfers: what dead processes left goes, what is being made is not in its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.lock import FileLock
from naap_ops.storage.s3 import folders


@pytest.mark.parametrize("name", ["naap_ops-s3-dying", ".naap_ops-s3-young"])
@pytest.mark.parametrize("content", [(), (folders.LOCK,)], ids=["no lock", "a lock nobody holds"])
def test_what_died_while_it_was_made_or_removed_goes(tmp_path: Path, name: str, content: tuple[str, ...]) -> None:
    (tmp_path / name).mkdir()
    for each in content:
        (tmp_path / name / each).touch()
    folders.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_lives_stays(tmp_path: Path) -> None:
    (tmp_path / ".naap_ops-s3-young").mkdir()
    with FileLock(tmp_path / ".naap_ops-s3-young" / folders.LOCK, what="a test"), folders.private_folder(tmp_path) as folder:
        folders.sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == [tmp_path / ".naap_ops-s3-young", folder]


def test_one_that_a_sweep_took_in_its_first_moment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire = FileLock.acquire
    swept: list[Path] = []

    def after_a_sweep(lock: FileLock) -> None:
        if not swept:
            swept.append(lock.path)
            folders.sweep(tmp_path)
        acquire(lock)

    monkeypatch.setattr(FileLock, "acquire", after_a_sweep)
    with folders.private_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
        assert swept
