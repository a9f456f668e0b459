"""What a reverse has brought back, and what it has not: read in its transaction, before that ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from naap_ops.reverse.images.statements import CONFLICTS, COUNTED, RESTORED

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

_MOST: Final = 1000
_THERE: Final = "select pg_catalog.to_regclass(%s) is not null"


def counted(connection: Connection) -> tuple[dict[str, int], list[dict[str, Any]], int]:
    """Rows by table; conflicts (``table``, ``key``, ``columns``, which is empty for a whole row), a thousand of them at most;
    how many there are. Nothing where no images were used."""
    if connection.execute(_THERE, [RESTORED]).fetchone() != (True,):
        return {}, [], 0
    rows = connection.execute(COUNTED.encode()).fetchall()
    query = f"select relation, key, columns, count(*) over () from {CONFLICTS} order by 1, 2 limit {_MOST}"
    found = connection.execute(query.encode()).fetchall()
    conflicts = [{"table": relation, "key": key, "columns": columns} for relation, key, columns, _ in found]
    return {relation: int(count) for relation, count in rows if count}, conflicts, found[0][3] if found else 0
