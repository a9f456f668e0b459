"""Which tables the migrations since a backup have touched: changed their columns, or their rows.

Columns are compared, not read from scripts. Rows are changed by INSERT, UPDATE, DELETE, TRUNCATE, MERGE and COPY, by cascades
of deletes, and by what cannot be read (DO, functions): of those every table is taken that their text names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from naap_ops.errors import ConfigurationError, MigrationUnreadable, PrismaProjectNotFound
from naap_ops.prisma import archive, tracking
from naap_ops.prisma.migrations import SCRIPT
from naap_ops.salvage import catalog
from naap_ops.salvage.model import ForeignKey, Name, Table
from naap_ops.salvage.pairing import same_columns

if TYPE_CHECKING:
    from pathlib import Path

    from naap_ops.app import App
    from naap_ops.backup.manifest import Manifest
    from naap_ops.postgres.session import Connection

_TARGET: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt"})
_DELETING: Final = frozenset({"DeleteStmt", "TruncateStmt", "MergeStmt"})
_CASCADING: Final = "TruncateStmt CASCADE"


@dataclass(frozen=True)
class Touched:
    """``tables``: by which migration, in words. ``unknown``: migrations whose script is nowhere, or cannot be read."""

    tables: dict[Name, str]
    unknown: tuple[str, ...]


def touched(app: App, old: Connection, manifest: Manifest, sides: tuple[Mapping[Name, Table], Mapping[Name, Table]]) -> Touched:
    """Look at the books of the old database, at what the backup has of them, and at the scripts of the difference."""
    before = {
        (book["schema"], each["name"])
        for book in manifest.prisma
        for each in book["migrations"]
        if each["state"] != "rolled_back"
    }
    found: dict[Name, str] = {}
    unknown = []
    keys = catalog.foreign_keys(old)
    for schema in tracking.schemas(old):
        for name in tracking.read(old, schema).applied():
            if (schema, name) in before:
                continue
            path = _script(app, name)
            try:
                names = None if path is None else set(rows_changed_by(path.read_bytes(), name, schema, sides[0], keys))
            except (OSError, MigrationUnreadable):
                names = None
            if names is None:
                unknown.append(name)
            else:
                found |= {each: f"migration {name} has written to it" for each in names if each not in found}
    for each, table in sides[0].items():
        live = sides[1].get(each)
        if live is not None and not same_columns(table, live):
            found[each] = "its columns are others in the two databases"
    return Touched(found, tuple(unknown))


def _script(app: App, name: str) -> Path | None:
    from naap_ops.histories import Histories

    try:
        found = Histories(app).script_of(name)
    except (PrismaProjectNotFound, ConfigurationError):
        there = [each.folder / SCRIPT for each in archive.entries(app.archive) if each.migration == name]
        return next((path for path in there if path.is_file()), None)
    return found.path if found else None


def rows_changed_by(
    data: bytes, name: str, schema: str, tables: Collection[Name], keys: Iterable[tuple[ForeignKey, str]]
) -> Iterator[Name]:
    """The tables whose rows a script changes."""
    from naap_ops.reverse.script import parse

    deleted: set[Name] = set()
    emptied: set[Name] = set()
    for statement in parse(data, name=name).statements:
        if statement.opaque:
            yield from (each for each in tables if re.search(rf"(?<!\w){re.escape(each[1])}(?!\w)", statement.sql))
            continue
        for kind, relation in _targets(statement.node):
            target = (relation.schemaname or schema, relation.relname)
            (emptied if kind == _CASCADING else deleted if kind in _DELETING else set()).add(target)
            yield target
    keys = list(keys)
    yield from _reached(deleted, [key for key, action in keys if action in catalog.CASCADES])
    yield from _reached(emptied, [key for key, _ in keys])


def _targets(root: Any) -> Iterator[tuple[str, Any]]:
    from postgast import pg_query_pb2 as grammar

    from naap_ops.reverse.relations import messages, unwrapped

    for node in messages(root):
        kind = node.DESCRIPTOR.name
        if kind == "TruncateStmt":
            cascading = node.behavior == grammar.DROP_CASCADE
            yield from ((_CASCADING if cascading else kind, unwrapped(each)) for each in node.relations)
        elif kind in _TARGET and node.HasField("relation"):
            yield kind, node.relation


def _reached(from_: set[Name], keys: list[ForeignKey]) -> set[Name]:
    """The tables below these."""
    reached = set(from_)
    while more := {key.child for key in keys if key.parent in reached} - reached:
        reached |= more
    return reached - from_
