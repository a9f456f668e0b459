"""Loads a backup into a scratch database as its proof: what is missing around it on a scratch server is put there first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops.backup import toc
from naap_ops.backup.engines.base import listed
from naap_ops.backup.loading import LoadOptions, load, load_archive
from naap_ops.backup.manifest import Manifest
from naap_ops.errors import Refused
from naap_ops.postgres.catalog.extensions import unavailable
from naap_ops.postgres.catalog.roles import missing_roles

if TYPE_CHECKING:
    from psycopg import Connection

    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.tools import Toolset


def prove_load(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, *, jobs: int) -> None:
    """Load the backup into the empty scratch database of ``info``. Raises CommandFailed where it does not load, Refused where the
    scratch server cannot tell (an extension it has no files for)."""
    from naap_ops.postgres.session import connect

    with connect(info) as connection:
        _prepare(connection, manifest)
    options = LoadOptions(jobs=jobs, words=("--no-tablespaces",))
    if manifest.structure and manifest.format != "plain" and manifest.kind != "schema":
        _load_part(folder, manifest, tools, info, options)
    else:
        load(folder, manifest, tools, info, options)


def _prepare(connection: Connection, manifest: Manifest) -> None:
    from psycopg import sql

    lacking = unavailable(connection, [e["name"] for e in manifest.extensions])
    if lacking:
        raise Refused(
            reason=f"the scratch server has no extension {', '.join(lacking)}: a restore cannot be proved there",
            hint="Set scratch_url to a server that has it.",
        )
    for role in missing_roles(connection, manifest.roles):
        connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))


def _load_part(folder: Path, manifest: Manifest, tools: Toolset, info: ConnInfo, options: LoadOptions) -> None:
    """A part of a database, or rows alone: into the structure of the whole. Foreign keys of a part may point at rows outside it and
    are left out; of rows alone, all are checked."""
    archive, structure = folder / manifest.archive, folder / str(manifest.structure)
    load_archive(structure, tools, info, options, "--section=pre-data")
    load_archive(archive, tools, info, options, "--section=data")
    after = structure if manifest.kind == "data" else archive
    entries = listed(tools, after)
    if not manifest.scope.whole:
        entries = [e for e in entries if not e.describes("FK CONSTRAINT")]
    chosen = LoadOptions(jobs=options.jobs, words=options.words, use_list=toc.use_list(entries))
    load_archive(after, tools, info, chosen, "--section=post-data")
