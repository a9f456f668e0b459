"""The manifest: what a backup is, in JSON that can be read in ten years. Field by field in DESIGN.md, section 3."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from naap_ops.errors import BackupDamaged, NewerFormat
from naap_ops.storage.base import StoredFile

VERSION = 1
_Json = bytes  # the class below has a field of that name
FILE_NAME = "manifest.json"

GRADES = ("none", "hash", "read", "restore")


@dataclass(frozen=True)
class FileFact:
    """One file of the backup: path relative to it, bytes, hex SHA-256. ``stored``: the same of the encrypted file, if it is."""

    path: str
    bytes: int
    sha256: str
    stored: StoredFile | None = None

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        values = _known(cls, raw)
        stored = values.get("stored")
        return cls(**{**values, "stored": StoredFile(**_known(StoredFile, stored)) if stored else None})

    def as_json(self) -> dict[str, Any]:
        """Without what is not so."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class TableFact:
    """One table whose structure or rows are in the archive.

    ``rows`` is exact as of the snapshot, None when its rows are not in the backup. ``file`` is its data file (directory format
    only), ``objects`` the ``catalog:oid`` pairs of what belongs to it (indexes, constraints, sequences, ...).
    ``partitioned``: its rows are in its partitions, which are tables of their own (False in manifests of 0.1.0 and older too).
    """

    schema: str
    name: str
    oid: int
    owner: str
    rows: int | None
    file: str | None = None
    objects: list[str] = field(default_factory=list)
    partitioned: bool = False

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Scope:
    """What of the database is in the backup; all lists empty means all of it. Exact names, ``schema.table`` for tables."""

    schemas: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    exclude_table_data: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.schemas or self.tables)

    def text(self) -> str:
        """For people: ``all``, ``schema a``, ``table b``, with what was left out."""
        parts = [f"schema {s}" for s in self.schemas] + [f"table {t}" for t in self.tables]
        without = f" without rows of {', '.join(self.exclude_table_data)}" if self.exclude_table_data else ""
        return (", ".join(parts) or "all") + without


@dataclass(frozen=True)
class Manifest:
    """See DESIGN.md. Times are RFC 3339 UTC; sizes are bytes; ``database``, ``server``, ``prisma`` are plain JSON objects."""

    id: str
    label: str
    alias: str
    kind: str
    scope: Scope
    format: str
    compression: str
    archive: str
    database: dict[str, Any]
    server: dict[str, Any]
    tools: dict[str, str]
    extensions: list[dict[str, str]]
    roles: list[str]
    schemas: list[dict[str, Any]]
    prisma: list[dict[str, Any]]
    started_at: str
    snapshot_at: str
    finished_at: str
    wal_lsn: str
    seconds: float
    rows: int
    bytes: int
    tables: list[TableFact]
    files: list[FileFact]
    verified: dict[str, str]
    structure: str | None = None
    encryption: dict[str, Any] | None = None
    transactions: str | None = None
    manifest_version: int = VERSION
    toolkit: str = ""

    def to_json(self) -> _Json:
        """Indented for people, keys in the order of the fields, and last a checksum of all the rest."""
        values = {**dataclasses.asdict(self), "files": [file.as_json() for file in self.files]}
        return (json.dumps({**values, "checksum": _checksum(values)}, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: _Json, *, id: str) -> Self:
        """Read a manifest. Raises NewerFormat for a later version, BackupDamaged for anything that is not a manifest."""
        try:
            raw = json.loads(text)
            version = int(raw["manifest_version"])
            checksum = _checksum({name: value for name, value in raw.items() if name != "checksum"})
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise BackupDamaged(id=id, problems=f"its manifest cannot be read ({error})") from None
        if version > VERSION:
            raise NewerFormat(id=id, found=version, known=VERSION)
        if raw.get("checksum") != checksum:
            raise BackupDamaged(id=id, problems="its manifest does not match its own checksum")
        try:
            values = _known(cls, raw)
            values["scope"] = Scope(**_known(Scope, raw["scope"]))
            values["tables"] = [TableFact(**_known(TableFact, table)) for table in raw["tables"]]
            values["files"] = [FileFact.from_json(file) for file in raw["files"]]
            for name in ("database", "server", "tools", "verified"):
                _known(dict, raw[name])
            manifest = cls(**values)
        except (KeyError, TypeError) as error:
            raise BackupDamaged(id=id, problems=f"its manifest is incomplete ({error})") from None
        if manifest.id != id:
            raise BackupDamaged(id=id, problems=f"its manifest is that of {manifest.id}")
        return manifest

    @property
    def table_count(self) -> int:
        return counted(self.tables)

    def table(self, schema: str, name: str) -> TableFact | None:
        return next((t for t in self.tables if t.schema == schema and t.name == name), None)


def counted(tables: Sequence[TableFact]) -> int:
    """How many tables, as people count them: those with rows in the backup; without any, those that can hold some."""
    return sum(t.rows is not None for t in tables) or sum(not t.partitioned for t in tables)


def _known(kind: type, raw: Any) -> dict[str, Any]:
    """The keys of a JSON object that this version knows: later ones may add keys anywhere. Raises TypeError for no object."""
    if not isinstance(raw, dict):
        raise TypeError(f"{raw!r:.40} is no object")
    fields = getattr(kind, "__dataclass_fields__", raw)
    return {name: value for name, value in raw.items() if name in fields}


def _checksum(values: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
