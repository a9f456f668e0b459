"""A backup's schema as a script: what it would create, without rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup.reading import read_stream
from naap_ops.backup.sections import ROWS, Sections
from naap_ops.errors import Refused

if TYPE_CHECKING:
    from naap_ops.backup.repository import Backup
    from naap_ops.postgres.tools import Toolset

_CONTENT = ROWS | {"BLOB", "BLOBS", "BLOB METADATA", "LARGE OBJECT", "LARGE OBJECTS"}


def script(backup: Backup, tools: Toolset | None, *, full: bool) -> str:
    """The script; ``full`` with owners and privileges, where the archive can tell them apart. Raises CommandFailed, Refused."""
    manifest = backup.sound
    whole = f"{manifest.archive}/toc.dat" if manifest.format == "directory" else manifest.archive
    with backup.storage.local(backup.prefix, [manifest.structure or whole]) as folder:
        if manifest.format == "plain" and manifest.structure is None:
            return _without_rows(folder / manifest.archive)
        if tools is None or tools.bindir is None:
            raise Refused(
                reason=f"the schema of backup {backup.id} cannot be read through tools.exec",
                hint="Install the client tools on this machine, or start from another state.",
            )
        words = ["--schema-only", "--no-tablespaces", *([] if full else ["--no-owner", "--no-privileges"])]
        argv: list[str | Path] = [
            tools.bindir / "pg_restore",
            *words,
            "--file=-",
            folder / (manifest.structure or manifest.archive),
        ]
        return process.run(argv)[1].decode()


def _without_rows(path: Path) -> str:
    pieces: list[bytes] = []
    sections = Sections(_CONTENT, pieces.append, but=True)
    read_stream(path, sections.feed)
    sections.feed(b"\n")
    return b"".join(pieces).decode()
