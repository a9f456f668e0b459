"""Loads a backup into a scratch database as its proof, and tells a bad backup from a scratch server that cannot hold it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.backup.engines.base import LOST
from naap_ops.backup.loading import LoadOptions, load
from naap_ops.backup.manifest import Manifest
from naap_ops.errors import CommandFailed, Refused
from naap_ops.postgres.catalog.extensions import unavailable
from naap_ops.postgres.catalog.roles import missing_roles

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.properties import DatabaseProps
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset

# What a server lacks that is no part of any dump: collations of its build, tablespaces, libraries, memory for locks, itself.
_LACKING = re.compile(
    r'collation "[^"]*"(?:\."[^"]*")? for encoding "[^"]*" does not exist|ICU is not supported in this build'
    r'|tablespace "[^"]*" does not exist|could not access file "[^"]*"|extension "[^"]*" is not available'
    r"|unrecognized configuration parameter|out of shared memory|No space left on device|" + LOST.pattern
)
# What can fail for rows that are sound, where text sorts and compares otherwise.
_LOCALE = re.compile(r"violates (?:check|partition) constraint|empty range bound|no partition of relation")
_HINT = "Set scratch_url to a server that is built and set up like the original."


def prove_load(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, *, jobs: int) -> None:
    """Load the backup into the empty scratch database of ``info``; its roles must be there (:func:`lent_roles`).

    Raises CommandFailed where it does not load, Refused where that is the scratch server's fault and nothing is proved.
    """
    from naap_ops.postgres.databases import properties
    from naap_ops.postgres.session import connect

    with connect(info) as connection:
        lacking = unavailable(connection, [e["name"] for e in manifest.extensions])
        there = properties(connection, str(info.dbname))
    if lacking:
        raise _unproved(f"it has no extension {', '.join(lacking)}")
    try:
        load(folder, manifest, tools, info, LoadOptions(jobs=jobs, words=("--no-tablespaces",)))
    except CommandFailed as error:
        said = str(error.fields["stderr"])
        if found := _LACKING.search(said):
            raise _unproved(found[0]) from error
        if (found := _LOCALE.search(said)) and not _same_locale(there, manifest):
            raise _unproved(f"{found[0]}, under another locale than {manifest.database['collate']}") from error
        raise


def _same_locale(there: DatabaseProps, manifest: Manifest) -> bool:
    return all(manifest.database[field] == getattr(there, field) for field in ("provider", "collate", "ctype", "locale"))


def _unproved(reason: str) -> Refused:
    return Refused(reason=f"the scratch server cannot hold this backup ({reason}): nothing is proved", hint=_HINT)


@contextlib.contextmanager
def lent_roles(connection: Connection, wanted: list[str]) -> Iterator[None]:
    """Roles that the scratch server lacks, for the length of the block; one that is still needed there then stays."""
    from psycopg import errors, sql

    lent = missing_roles(connection, wanted)
    for role in lent:
        with contextlib.suppress(errors.DuplicateObject):
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
    try:
        yield
    finally:
        for role in lent:
            with contextlib.suppress(errors.DependentObjectsStillExist, errors.UndefinedObject):
                connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
