"""Loads a backup's archive into an empty database and counts what arrived: the common part of proving and restoring."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup import toc
from naap_ops.backup.engines.base import listed
from naap_ops.backup.engines.script import piped
from naap_ops.backup.manifest import Manifest
from naap_ops.backup.pipes import PipedArchive
from naap_ops.backup.reading import Unreadable, read_stream
from naap_ops.backup.sections import ROWS, Sections
from naap_ops.errors import BackupDamaged, CommandFailed

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset

# Only for the sessions that load: what is lost in a crash is an unfinished aside database.
FAST_SESSION = {"synchronous_commit": "off", "maintenance_work_mem": "256MB"}


# Makes a consumer of a script's bytes out of psql's input; after the last piece the consumer gets an empty one.
Sink = Callable[[bytes], None]
Through = Callable[[Sink], Sink]


@dataclass(frozen=True)
class LoadOptions:
    """``session`` are settings of the loading sessions only. ``use_list`` is a list file of entries for pg_restore.

    ``on_data`` is told each time a table's rows are in: the entry's dump id, None where pg_restore does not say it.
    ``through`` is put between a plain script and psql.
    """

    jobs: int = 2
    owner: bool = True
    privileges: bool = True
    session: Mapping[str, str] = field(default_factory=lambda: dict(FAST_SESSION))
    use_list: bytes | None = None
    words: Sequence[str] = ()
    on_data: Callable[[int | None], None] | None = None
    through: Through | None = None


def load(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions) -> set[str]:
    """Load the archive under ``folder`` into the database ``info`` names. Stops at the first error: CommandFailed.

    A part of a database, or rows alone, go into the structure of the whole, which such a backup holds beside its archive.
    The result are the files whose hashes were compared with the manifest on the way; BackupDamaged for one that is another.
    """
    if manifest.structure:
        return _load_part(folder, manifest, tools, info, options)
    if manifest.format == "plain":
        load_script(folder / manifest.archive, tools, info, options.session, through=options.through)
        return set()
    return _load_main(folder, manifest, tools, info, options)


def _load_main(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions, *words: str) -> set[str]:
    """The archive proper; in directory format and by several sessions through pipes, the files' hashes being compared."""
    archive = folder / manifest.archive
    if manifest.format != "directory" or tools.remote or options.jobs == 1:
        load_archive(archive, tools, info, options, *words)
        return set()
    hashes = {Path(fact.path).name: fact.sha256 for fact in manifest.files if Path(fact.path).parent == Path(manifest.archive)}
    with PipedArchive(archive, hashes, options.jobs) as piped:
        try:
            _run_pg_restore(archive, tools, info, options, words, piped)
        except CommandFailed:
            if not piped.problems:
                raise
    if piped.problems:
        raise BackupDamaged(id=manifest.id, problems="; ".join(piped.problems))
    return {f"{manifest.archive}/{name}" for name in piped.sound}


def _load_part(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions) -> set[str]:
    """Foreign keys of a part may point at rows outside it and are left out; of rows alone, all are checked.

    Indexes and the like are the whole's too: a part's may be attached to, or computed with, what is outside it.
    """
    structure = folder / str(manifest.structure)
    load_archive(structure, tools, info, options, "--section=pre-data")
    sound = set() if manifest.kind == "schema" else _load_rows(folder, manifest, tools, info, options)
    entries = listed(tools, structure)
    if not manifest.scope.whole:
        entries = [e for e in entries if not e.describes("FK CONSTRAINT")]
    load_archive(structure, tools, info, replace(options, use_list=toc.use_list(entries)), "--section=post-data")
    return sound


def _load_rows(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions) -> set[str]:
    """The rows of an archive. One that holds nothing else is loaded whole: its large objects come before the rows."""
    alone = manifest.kind == "data"
    if manifest.format != "plain":
        return _load_main(folder, manifest, tools, info, options, *([] if alone else ["--section=data"]))
    through = options.through if alone else _rows_only(options.through)
    load_script(folder / manifest.archive, tools, info, options.session, through=through)
    return set()


def _rows_only(through: Through | None) -> Through:
    def chosen(sink: Sink) -> Callable[[bytes], None]:
        return Sections(ROWS, through(sink) if through else sink).feed

    return chosen


def load_archive(archive: Path, tools: Toolset, info: ConnInfo, options: LoadOptions, *words: str) -> None:
    """Run pg_restore on one archive. Through tools.exec it reads the archive from its input and cannot be parallel."""
    if not tools.remote:
        _run_pg_restore(archive, tools, info, options, words)
        return
    files = {} if options.use_list is None else {"list": options.use_list}
    listed = [] if options.use_list is None else ["--use-list", "@files/list"]
    arguments = [*_arguments(info, options, words), *listed]
    command = tools.command("pg_restore", arguments, info.with_settings(options.session), files=files)
    with piped(command, archive) as child:
        child.stdout.read()
        child.check()


def _arguments(info: ConnInfo, options: LoadOptions, words: Sequence[str]) -> list[str]:
    found = ["--exit-on-error", "--no-password", f"--dbname={_conninfo_word(info)}", *options.words, *words]
    found += [] if options.owner else ["--no-owner"]
    return found + ([] if options.privileges else ["--no-privileges"])


def _run_pg_restore(
    archive: Path,
    tools: Toolset,
    info: ConnInfo,
    options: LoadOptions,
    words: Sequence[str],
    through: PipedArchive | None = None,
) -> None:
    """pg_restore on this machine, of the archive itself or ``through`` the pipes that stand for it."""
    listeners = [listener for listener in (through and through.heard, _progress(options)) if listener]

    def line(text: str) -> None:
        for listener in listeners:
            listener(text)

    place = through.path if through else archive
    with _list_file(options.use_list) as listed:
        verbose = ["--verbose"] if listeners else []
        arguments = [*_arguments(info, options, words), *verbose, *listed, f"--jobs={options.jobs}", str(place)]
        command = tools.command("pg_restore", arguments, info.with_settings(options.session))
        with process.start(command.argv, env=command.env, on_stderr=line if listeners else None) as child:
            if through:
                through.started(child)
            child.check()


# What pg_restore --verbose says of rows that are in: in parallel its leader, else the only process there is.
_FINISHED = re.compile(r"finished item (\d+) TABLE DATA ")
_PROCESSING = "processing data for table "


def _progress(options: LoadOptions) -> Callable[[str], None] | None:
    tell = options.on_data
    if tell is None:
        return None

    def line(text: str) -> None:
        if match := _FINISHED.search(text):
            tell(int(match[1]))
        elif options.jobs == 1 and _PROCESSING in text:
            tell(None)

    return line


def _conninfo_word(info: ConnInfo) -> str:
    """The database for ``--dbname``: pg_restore needs the option. The rest comes by the environment."""
    name = (info.dbname or "").replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{name}'"


@contextlib.contextmanager
def _list_file(content: bytes | None) -> Iterator[list[str]]:
    import tempfile

    if content is None:
        yield []
        return
    with tempfile.NamedTemporaryFile(prefix="naap_ops_", suffix=".list") as file:
        file.write(content)
        file.flush()
        yield [f"--use-list={file.name}"]


def load_script(
    path: Path, tools: Toolset, info: ConnInfo, session: Mapping[str, str], *, through: Through | None = None
) -> None:
    """Feed a script to psql in one transaction. Raises CommandFailed, Unreadable.

    The transaction is written out, as ``--single-transaction`` commits at end of input: cut off anywhere, nothing stays. A
    script that ends inside a string or a comment would swallow the COMMIT unnoticed: so the server is asked to confirm.
    """
    confirmation = f"naap_ops {secrets.token_hex(8)}"
    seen: list[str] = []
    words = ["-X", "-q", "--no-password", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    command = tools.command("psql", words, info.with_settings(session))
    with process.start(
        command.argv,
        env=command.env,
        stdin=process.PIPE,
        on_stderr=lambda line: seen.append(line) if confirmation in line else None,
    ) as child:

        def sink(piece: bytes) -> None:
            child.stdin.write(piece)

        with contextlib.suppress(BrokenPipeError):  # psql stopped at an error, which its status tells
            sink(command.preamble + _BEGIN)
            if through is None:
                read_stream(path, sink)
            else:
                consume = through(sink)
                read_stream(path, consume)
                consume(b"")
            sink(_COMMIT.format(confirmation).encode())
            child.stdin.close()
        child.check()
    if not seen:
        raise Unreadable(detail=f"{path.name} ends inside a statement, a string or a comment: nothing of it was kept")


# The semicolon ends a statement that the script has left open. The transaction's own number is what the server is asked about.
_BEGIN = b"""BEGIN;
SELECT pg_catalog.set_config('naap_ops.transaction', pg_catalog.pg_current_xact_id()::text, false);
"""
_COMMIT = """
;
COMMIT;
SET client_min_messages = warning;
DO $naap_ops$ BEGIN
  IF pg_catalog.pg_xact_status(
    nullif(pg_catalog.current_setting('naap_ops.transaction', true), '')::pg_catalog.xid8
  ) = 'committed' THEN
    RAISE WARNING '{}';
  END IF;
END $naap_ops$;
"""
