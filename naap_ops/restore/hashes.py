"""The backup's files against its manifest: sizes and small files at once, the hashes of the rest while it is already loading.

Nothing is published before :meth:`FileCheck.passed` has returned.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from naap_ops.backup.manifest import FileFact, Manifest
from naap_ops.backup.reading import is_table_data
from naap_ops.backup.verify import file_problems
from naap_ops.errors import BackupDamaged
from naap_ops.wording import count_of

# What is hashed before anything is done with it: tables of contents, for one.
_SMALL = 4 << 20
_NAMED = 10


class FileCheck:
    """``with FileCheck(folder, manifest, names) as check:`` raises BackupDamaged at once for what is missing or cut short.

    ``names`` are the files to look at. :meth:`start` has a thread compare the hashes.
    """

    def __init__(self, folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
        wanted = set(names)
        self._folder = folder
        self._manifest = manifest
        self._facts = [fact for fact in manifest.files if fact.path in wanted]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._hashing: Future[list[str]] | None = None
        self._stop = threading.Event()
        self._sound: set[str] = set()

    def __enter__(self) -> Self:
        self._raise(problem for fact in self._facts if (problem := _size_problem(self._folder, fact)))
        self._raise(file_problems(self._folder, self._manifest, self._small))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _small(self) -> set[str]:
        return {fact.path for fact in self._facts if fact.bytes <= _SMALL and not is_table_data(Path(fact.path))}

    def start(self) -> None:
        """Begin with the rest. Harmless when it has begun."""
        self._hashing = self._hashing or self._pool.submit(self._hash)

    def found_sound(self, paths: Iterable[str]) -> None:
        """Who has read these files whole has compared their hashes."""
        self._sound |= set(paths)

    def _hash(self) -> list[str]:
        done = self._small | self._sound
        problems: list[str] = []
        for fact in self._facts:
            if self._stop.is_set():
                break
            if fact.path not in done:
                problems += file_problems(self._folder, self._manifest, {fact.path})
        return problems

    def passed(self) -> None:
        """Wait for the hashes. Raises BackupDamaged."""
        self.start()
        assert self._hashing is not None
        self._raise(self._hashing.result())

    def _raise(self, problems: Iterable[str]) -> None:
        found = list(problems)
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise BackupDamaged(id=self._manifest.id, problems="; ".join(found[:_NAMED]) + more)


def _size_problem(folder: Path, fact: FileFact) -> str | None:
    try:
        size = (folder / fact.path).stat().st_size
    except FileNotFoundError:
        return f"{fact.path} is missing"
    return None if size == fact.bytes else f"{fact.path} has {count_of(size, 'byte')}, not {fact.bytes:,}"
