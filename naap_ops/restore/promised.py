"""Whether all that an archive promises is in the database that was loaded from it: by the two tables of contents.

pg_restore says what failed; this is a second look that does not believe it. The loaded database is dumped once more, its
definitions only, by the same program, so that both name their objects in the same words.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup import toc
from naap_ops.backup.engines.base import listed

if TYPE_CHECKING:
    from naap_ops.backup.toc import Entry
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset


# pg_class, pg_constraint, pg_attrdef, pg_proc, pg_type, pg_trigger, pg_rewrite, pg_policy, pg_namespace, pg_extension,
# pg_statistic_ext. Not large objects, which are rows; not default privileges, which may be left out.
_CATALOGS = frozenset({toc.PG_CLASS, 2606, 2604, 1255, 1247, 2620, 2618, 3256, toc.PG_NAMESPACE, 3079, 3381})


def lacking(archive: Path, tools: Toolset, info: ConnInfo) -> list[str]:
    """Objects of the archive that the database ``info`` names does not have, as pg_restore lists them, without the owner.

    Raises CommandFailed. Nothing is known where tools run elsewhere (``tools.exec``), which would send the dump through a pipe.
    """
    if tools.remote:
        return []
    wanted = Counter(map(_name, _objects(listed(tools, archive))))
    with tempfile.TemporaryDirectory(prefix="naap_ops_") as folder:
        again = Path(folder) / "definitions"
        command = tools.command("pg_dump", ["--schema-only", "--format=custom", f"--file={again}"], info)
        process.run(command.argv, env=command.env)
        there = Counter(map(_name, _objects(listed(tools, again))))
    return sorted((wanted - there).elements())


def _objects(entries: list[Entry]) -> list[Entry]:
    """Those that stand for an object of their own. The schema `public` is in a dump or not by what it is granted."""
    found = [entry for entry in entries if entry.catalog in _CATALOGS]
    return [entry for entry in found if not (entry.catalog == toc.PG_NAMESPACE and " public " in entry.text)]


def _name(entry: Entry) -> str:
    """Without the owner, whose role may be another one: the last word, or more of it in quotes that are not printed."""
    return entry.text.rpartition(" ")[0]
