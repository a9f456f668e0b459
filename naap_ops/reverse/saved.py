"""A catalog as a file: canonical JSON, so that two of the same state are the same bytes but for the moment's keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from naap_ops.errors import ConfigurationError
from naap_ops.files import failure, write_durably
from naap_ops.postgres.catalog.model import Catalog, Kind
from naap_ops.postgres.catalog.snapshot import KINDS

FORMAT: Final = "naap_ops catalog"
VERSION: Final = 1
_ANEW: Final = "Save it anew with `invoke reverse.catalog`."


def write(catalog: Catalog, path: Path) -> None:
    """Save a catalog. Raises StorageError, NoSpace."""
    kinds = {name: _sorted(kind, catalog.rows[name].values()) for name, kind in KINDS.items()}
    fields = {name: _fields(catalog, name) for name in kinds}
    content = {"format": FORMAT, "version": VERSION, "major": catalog.major, "schema": catalog.schema, "user": catalog.user}
    text = json.dumps({**content, "fields": fields, "rows": kinds}, indent=1, ensure_ascii=False, sort_keys=True)
    try:
        write_durably(path, text.encode() + b"\n")
    except OSError as error:
        raise failure(path, error, "Is the folder there and writable?") from None


def read(path: Path) -> Catalog:
    """The catalog of a file. Raises ConfigurationError for what is none, or one of another version."""
    try:
        found: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(detail=f"{path} cannot be read: {error.strerror}", hint=_ANEW) from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigurationError(detail=f"{path} is no saved catalog", hint=_ANEW)
    if found.get("version") != VERSION:
        raise ConfigurationError(detail=f"{path} has version {found.get('version')}, and {VERSION} is known here", hint=_ANEW)
    try:
        rows = {name: _rows(name, found["fields"][name], found["rows"][name]) for name in KINDS}
        return Catalog(found["major"], found["schema"], rows, user=found["user"])
    except (KeyError, TypeError) as error:
        raise ConfigurationError(detail=f"{path} is not what this version would have saved: {error}", hint=_ANEW) from None


def _sorted(kind: Kind, rows: Iterable[Any]) -> list[list[Any]]:
    return [list(row) for row in sorted(rows, key=lambda row: (kind.identify(row), row.key))]


def _rows(name: str, fields: list[str], rows: list[list[Any]]) -> dict[int, Any]:
    made = {row[0]: KINDS[name].row(row) for row in rows}
    if made and list(next(iter(made.values()))._fields) != fields:
        raise TypeError(f"other fields of {name}")
    return made


def _fields(catalog: Catalog, name: str) -> list[str]:
    return list(next(iter(catalog.rows[name].values()))._fields) if catalog.rows[name] else []
