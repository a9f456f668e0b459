"""Looks at a backup as hard as asked and writes down what was found: grades ``hash``, ``read``, ``restore``."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import clock
from naap_ops.backup import manifest as manifests
from naap_ops.backup.engines import engine
from naap_ops.backup.engines.base import ArchiveFacts, ReadJob
from naap_ops.backup.manifest import FileFact, Manifest
from naap_ops.backup.reading import read_file
from naap_ops.backup.repository import Backup
from naap_ops.backup.take import SUMS, sums
from naap_ops.errors import BackupDamaged, CommandFailed, OpsError, StorageError
from naap_ops.storage.age import AgeStorage, CiphertextDamaged
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset

# Gives an empty scratch database of the manifest's major, and the tools for it, for the length of the block.
Scratch = Callable[[Manifest], AbstractContextManager[tuple["ConnInfo", "Toolset"]]]
# Problems of a loaded database.
Ask = Callable[["ConnInfo"], Iterable[str]]

_READERS = 2
FILES, STORED = "files", "stored files"


@dataclass(frozen=True)
class Report:
    """What a check found. ``problems`` is empty when the backup is sound.

    ``compared``: ``files`` as they were made, or ``stored files``, as they lie there encrypted.
    """

    id: str
    grade: str
    seconds: float
    files: int
    bytes: int
    tables: int
    rows: int
    compared: str = FILES
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.problems


def verify(
    backup: Backup,
    grade: str,
    tools: Toolset | None,
    scratch: Scratch | None,
    *,
    jobs: int,
    record: bool = True,
    ask: Ask | None = None,
) -> Report:
    """Check ``backup`` at ``grade`` and add a ``verified`` or ``failed`` record to it.

    ``tools`` (grade read and up) must be able to read the archive; ``scratch`` is needed for grade restore. Problems are in
    the report; what could not be done at all (no tools, no scratch server) is raised, and leaves no record. ``ask`` looks at
    the database that grade restore has loaded, and yields what is wrong with it. At grade hash what is encrypted needs no
    identity: where none is configured, the encrypted files are compared with the hashes that the manifest has of them.
    """
    began = clock.monotonic()
    manifest = backup.sound
    rank = manifests.GRADES.index(grade)
    rows = 0
    storage, compared = backup.storage, FILES
    if grade == "hash" and isinstance(storage, AgeStorage) and not storage.opens and any(f.stored for f in manifest.files):
        storage, compared, manifest = storage.inner, STORED, _as_stored(manifest)
    try:
        with storage.local(backup.prefix) as folder:
            problems = list(file_problems(folder, manifest))
            if not problems and rank >= manifests.GRADES.index("read"):
                rows, problems = _read(folder, manifest, tools, jobs)
            if not problems and grade == "restore":
                assert scratch is not None
                rows, problems = _restore(folder, manifest, scratch, jobs, ask)
    except CiphertextDamaged as error:
        problems = [error.text]
    report = Report(
        id=backup.id,
        grade=grade,
        seconds=round(clock.monotonic() - began, 3),
        files=len(manifest.files),
        bytes=manifest.bytes,
        tables=manifest.table_count,
        rows=rows,
        compared=compared,
        problems=problems,
    )
    if record:
        facts = {"seconds": report.seconds, "rows": rows, "compared": compared, "problems": problems}
        backup.add_record("verified" if report.sound else "failed", grade=grade, **facts)
    return report


def _as_stored(manifest: Manifest) -> Manifest:
    """Its files under the names, and with the bytes and hashes, that they have where they are stored."""
    files = [FileFact(f.stored.path, f.stored.bytes, f.stored.sha256) if f.stored else f for f in manifest.files]
    return dataclasses.replace(manifest, files=files, bytes=sum(f.bytes for f in files))


def file_problems(folder: Path, manifest: Manifest, names: set[str] | None = None) -> Iterator[str]:
    """What is wrong with the files against the manifest: missing, of another size, another hash, or one too many.

    ``names`` limits the check to those files; then extra files are not looked for.
    """
    wanted = [f for f in manifest.files if names is None or f.path in names]
    with ThreadPoolExecutor(_READERS) as pool:
        yield from (problem for problem in pool.map(lambda f: _file_problem(folder, f), wanted) if problem)
    if names is None:
        yield from _extra(folder, manifest)
        yield from _sums(manifest)


def _file_problem(folder: Path, fact: FileFact) -> str | None:
    path = folder / fact.path
    try:
        size = path.stat().st_size
        if size != fact.bytes:
            return f"{fact.path} has {count_of(size, 'byte')}, not {fact.bytes:,}"
        if read_file(path, content=False).sha256 != fact.sha256:
            return f"{fact.path} has another hash"
    except FileNotFoundError:
        return f"{fact.path} is missing"
    except OSError as error:
        if error.errno != errno.EIO:  # a right that is missing, say, is not the file's fault
            raise StorageError(url=path, reason=error.strerror) from error
        return f"{fact.path} cannot be read: {error.strerror}"
    return None


def _extra(folder: Path, manifest: Manifest) -> Iterator[str]:
    known = {f.path for f in manifest.files} | {manifests.FILE_NAME}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and not name.startswith("records/") and path.name != ".lock":
            yield f"{name} is not in the manifest"


def _sums(manifest: Manifest) -> Iterator[str]:
    """``SHA256SUMS`` must agree with the manifest: someone without this toolkit relies on it."""
    expected = sums([f for f in manifest.files if f.path != SUMS])
    listed = next((f for f in manifest.files if f.path == SUMS), None)
    if listed is None or hashlib.sha256(expected.encode()).hexdigest() != listed.sha256:
        yield f"{SUMS} and the manifest disagree"


def _read(folder: Path, manifest: Manifest, tools: Toolset | None, jobs: int) -> tuple[int, list[str]]:
    """Read the archive to its end and compare the rows found in it with the manifest."""
    job = ReadJob(tools, folder, manifest.archive, manifest.tables, jobs)
    try:
        facts = engine(manifest.format).read(job)
        if manifest.structure:
            engine("custom").read(ReadJob(tools, folder, manifest.structure, manifest.tables, jobs))
    except CommandFailed as error:
        return 0, [f"pg_restore cannot read it: {_said(error)}"]
    except OSError as error:
        return 0, [f"it cannot be read: {error.strerror}"]
    except OpsError as error:
        if error.exit_code != BackupDamaged.exit_code:
            raise
        return 0, [error.text]
    return sum(facts.rows.values()), list(_row_problems(manifest, facts))


def _row_problems(manifest: Manifest, facts: ArchiveFacts) -> Iterator[str]:
    for table in manifest.tables:
        found = facts.rows.get(table.oid)
        if found != table.rows:
            held = "no rows" if found is None else count_of(found, "row")
            yield f"{table.qualified} holds {held} in the archive, {table.rows} by the manifest"


def _restore(folder: Path, manifest: Manifest, scratch: Scratch, jobs: int, ask: Ask | None) -> tuple[int, list[str]]:
    """Load it into a scratch database, count every table there, and ask what else is to be asked."""
    from naap_ops.backup.counting import check_rows
    from naap_ops.backup.proving import prove_load

    with scratch(manifest) as (info, tools):
        try:
            prove_load(folder, manifest, tools, info, jobs=jobs)
            rows = check_rows(manifest, info, jobs)
            return rows, list(ask(info)) if ask else []
        except CommandFailed as error:
            return 0, [f"it does not load: {_said(error)}"]
        except BackupDamaged as error:
            return 0, [str(error.fields["problems"])]


def _said(error: CommandFailed) -> str:
    """What the tool had against the backup. Raises the error itself when somebody ended the tool: that says nothing."""
    if error.fields["status"] in (-signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL):
        raise error
    return str(error.fields["stderr"])
