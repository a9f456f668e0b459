"""What the backup itself says of a key: its rows of one table, read from its files into a temporary table, as text.

Only asked for where both sides have changed or deleted rows of the base, which counting tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from naap_ops.backup.copytext import codec
from naap_ops.errors import UsageError
from naap_ops.restore.archive import Archive
from naap_ops.restore.outcome import RestoreOptions
from naap_ops.salvage.staging import agree

if TYPE_CHECKING:
    from naap_ops.backup.repository import Backup
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset
    from naap_ops.salvage.model import Pair

_WORD: Final = r'(?:"(?:[^"]|"")*"|[^\s."(]+)'
_COPY: Final = re.compile(rf"COPY {_WORD}(?:\.{_WORD})? \((.*)\) FROM stdin", re.DOTALL)
_NAME: Final = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True)
class Base:
    """The backup, and the tools that read it."""

    backup: Backup
    tools: Toolset

    def read(self, connection: Connection, pair: Pair) -> bool:
        """Fill ``pair.base``; False where the backup cannot be read in parts. Raises what reading a backup raises."""
        manifest = self.backup.sound
        names = {(schema, name) for _, schema, name in (*pair.old.parts, *pair.live.parts)}
        facts = [each for each in manifest.tables if (each.schema, each.name) in names and each.rows is not None]

        def turned(statement: bytes) -> bytes:
            columns = names_in(statement.decode(codec(manifest.database["encoding"])))
            defined = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(each)) for each in columns)
            connection.execute(sql.SQL("create temp table if not exists {} ({}) on commit drop").format(pair.base, defined))
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            return sql.SQL("copy {} ({}) from stdin").format(pair.base, listed).as_bytes(connection)

        try:
            archive = Archive(self.backup, self.tools, RestoreOptions(partial=True)).choose(facts)
        except UsageError:  # a plain script
            return False
        with archive:
            archive.read_rows(connection, turned)
        agree(connection)  # the archive has brought settings of its own
        connection.execute(sql.SQL("analyze {}").format(pair.base))
        return True


def names_in(statement: str) -> list[str]:
    """The columns of a COPY statement as pg_dump writes it; a table without columns has none."""
    found = _COPY.fullmatch(statement)
    return [quoted.replace('""', '"') or bare for quoted, bare in _NAME.findall(found[1])] if found else []
