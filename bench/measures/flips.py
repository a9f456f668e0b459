"""Row ``flips``: one bit flipped at random places of a backup; how often ``backup.verify --grade read`` finds it.

Every format with every compression that this major's tools can write. A place is a byte of any file of the backup but its
manifest, each byte being equally likely; the bit is flipped back before the next one. A find is exit code 13 (damaged), nothing
else. The manifest, which carries its own checksum, has a line of its own.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.figures import Line, note
from bench.lab import LIVE, Lab, Options

FLIPS = 30
_DAMAGED = 13
_MAJORS = (17,)
_SIZE_MB = 16
_FORMATS = ("directory", "custom", "plain")
_METHODS = ("none", "gzip", "zstd", "lz4")
_MANIFEST = "manifest.json"


def measure(options: Options) -> list[Line]:
    lines: list[Line] = []
    for major in options.each_major(*_MAJORS):
        with Lab(options, major, size_mb=_SIZE_MB) as lab:
            lines += _one(lab)
    return lines


def _one(lab: Lab) -> list[Line]:
    folders = {name: _backup(lab, *name) for name in _combinations(lab)}

    def found(name: tuple[str, str]) -> int:
        files = [path for path in _files(folders[name]) if path.name != _MANIFEST]
        return _found(lab, folders[name], files, " ".join(name))

    with ThreadPoolExecutor(lab.options.jobs) as pool:
        counts = list(pool.map(found, folders))
    lines = [_line(f"{', '.join(name)}, PostgreSQL {lab.major}", count) for name, count in zip(folders, counts, strict=True)]
    folder = next(iter(folders.values()))
    count = _found(lab, folder, [folder / _MANIFEST], "manifest")
    return [*lines, _line(f"in the manifest itself, PostgreSQL {lab.major}", count)]


def _line(what: str, count: int) -> Line:
    return Line(
        row="flips",
        measure=f"bit flips found at grade read: {what}",
        ours=f"{count} of {FLIPS}",
        wanted=f"{FLIPS} of {FLIPS}",
        met=count == FLIPS,
        details={"found": count, "flips": FLIPS},
    )


def _combinations(lab: Lab) -> list[tuple[str, str]]:
    methods = [method for method in _METHODS if lab.tools.supports_compression(method)]
    return [(form, method) for form in _FORMATS for method in methods if (form, method) != ("plain", "lz4")]


def _backup(lab: Lab, form: str, method: str) -> Path:
    """A backup of that make, seen to be sound before anything is done to it."""
    result = lab.backup("--format", form, "--compression", method).checked().result
    lab.ops("backup.verify", result["id"], "--grade", "read").checked()
    folder = lab.repository / LIVE / str(result["id"])
    shutil.rmtree(folder / "records")
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name != "records" and not p.name.startswith("."))


def _found(lab: Lab, folder: Path, files: Sequence[Path], name: str) -> int:
    """How many of the flips are found; afterwards the backup is as it was, and seen to be."""
    chance = random.Random(f"{lab.options.seed} {name}")
    sizes = [path.stat().st_size for path in files]
    found = 0
    for _ in range(FLIPS):
        path = chance.choices(files, weights=sizes)[0]
        position, bit = chance.randrange(path.stat().st_size), 1 << chance.randrange(8)
        _flip(path, position, bit)
        status = lab.ops("backup.verify", folder.name, "--grade", "read").status
        _flip(path, position, bit)
        shutil.rmtree(folder / "records", ignore_errors=True)
        if status == _DAMAGED:
            found += 1
        else:
            note(f"  {name}: not found, status {status}: {path.relative_to(folder)} byte {position} bit {bit}")
    lab.ops("backup.verify", folder.name, "--grade", "read").checked()
    note(f"  {name}: {found} of {FLIPS}")
    return found


def _flip(path: Path, position: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ bit]))
