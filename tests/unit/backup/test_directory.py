"""The directory engine's reader: what is on the disk beside the files that pg_dump is at."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from naap_ops.backup.engines import directory
from naap_ops.backup.reading import pack


def test_a_plain_file_counts_until_it_is_compressed_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = Event()

    def slowly(path: Path) -> Path:
        assert go_on.wait(60)
        return pack(path)

    monkeypatch.setattr(directory, "pack", slowly)
    completed: list[str] = []
    staging: Any = SimpleNamespace(waiting=0, complete=lambda name, _: completed.append(name))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "blobs.toc").write_text("1 blob_1.dat\n")
    (tmp_path / "data" / "blob_1.dat").write_bytes(b"large object")
    (tmp_path / "data" / "7.dat").write_bytes(b"1\n" * (40 << 20) + b"\\.\n\n\n")
    with directory._Reader(tmp_path, tmp_path / "data", staging, packing=True) as reader:
        reader.item(7)
        assert reader.behind(1), "80 MiB, of which less than 1 MiB would be compressed"
        go_on.set()
        reader.catch_up(1)
        assert not reader.behind(1)
        assert completed == ["data/7.dat.gz"]
        assert not (tmp_path / "data" / "7.dat").exists()
        readings = reader.rest()
    assert list(readings) == ["data/7.dat.gz", "data/blob_1.dat.gz", "data/blobs.toc"]
    assert readings["data/7.dat.gz"].rows == 40 << 20
    assert completed == ["data/7.dat.gz"]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"7.dat.gz", "blob_1.dat.gz", "blobs.toc"}
