"""The catalog that was loaded against the one that is live: kept in a file beside the journal, held against it after the swap.

A table, an index, a constraint or a function that somebody has dropped or made in between is named.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.session import connect
from naap_ops.reverse import saved

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection


def keep(connection: Connection, path: Path) -> None:
    """Save what the database has now. Raises StorageError."""
    saved.write(snapshot(connection), path)


def compare(info: ConnInfo, path: Path) -> list[str]:
    """What is not as it was kept, a line per object. Raises ConfigurationError where nothing was kept that can be read."""
    before = saved.read(path)
    with closing(connect(info, application_name="naap_ops emergency")) as connection:
        return [str(each) for each in differences(before, snapshot(connection))]
