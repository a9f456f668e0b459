"""The Prisma project on disk: schema, migrations folder, version, found as Prisma 5, 6 and 7 find them, without running code.

Prisma looks only in the folder it is run in. We are run from elsewhere too, mostly the root of a monorepo: then the one folder
below it that Prisma would be run in is taken, and where there are several the operator has to say which.
Sources: packages/config, packages/internals/src/cli/{getSchema,directoryConfig}.ts in Prisma's repository.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naap_ops.errors import ConfigurationError, PrismaProjectNotFound
from naap_ops.files import home
from naap_ops.prisma import configfile, schemafile
from naap_ops.prisma.migrations import POSTGRES, Migration, locale_key, misordered, provider, refuse_contract

_SCHEMAS = ("schema.prisma", "prisma/schema.prisma", "prisma/schema")
_DEPTH = 3
_SKIPPED = {"node_modules", "dist", "build"}
_VERSION = re.compile(r"(\d+)\.(\d+)")
_BYTES_BEFORE = (6, 10)


@dataclass(frozen=True)
class Overrides:
    """What the settings say, each stronger than what is found. Absolute paths."""

    root: Path | None = None
    schema: Path | None = None
    config: Path | None = None
    migrations: Path | None = None


@dataclass(frozen=True)
class Project:
    """``root`` is where ``npx prisma`` is run. ``version`` None: not to be found out. ``notes`` are sentences for people."""

    root: Path
    schema: Path | None
    config: Path | None
    migrations: Path
    provider: str | None = None
    url_variables: tuple[str, ...] = ()
    version: tuple[int, int] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def _by_bytes(self) -> bool:
        return self.version is not None and self.version < _BYTES_BEFORE

    def key(self, name: str) -> tuple[object, ...]:
        """By which this project's Prisma sorts its folders."""
        return (name.encode(),) if self._by_bytes else locale_key(name)

    def in_order(self, folders: Iterable[Migration]) -> list[Migration]:
        """The folders in the order in which this project's Prisma applies them."""
        return sorted(folders, key=lambda each: self.key(each.name))

    def ordering(self, names: list[str]) -> str | None:
        """A remark where Prisma before 6.10 and later ones apply in different orders; None where they agree."""
        if not (moved := misordered(names)):
            return None
        used = "bytes" if self._by_bytes else "localeCompare"
        which = ", ".join(moved[:4])
        return f"Prisma before 6.10 sorts these folders otherwise than later ones (here: {used}): {which}"


def find(cwd: Path, overrides: Overrides | None = None) -> Project:
    """The project that ``cwd`` stands in, or the only one below it.

    Raises PrismaProjectNotFound for none or several, PrismaUnsupported for one of Prisma 8, ConfigurationError.
    """
    overrides = overrides or Overrides()
    if overrides.root is not None:
        if not overrides.root.is_dir():
            raise PrismaProjectNotFound(detail=f"prisma.root: {overrides.root} is no folder")
        return _read(overrides.root, overrides)
    if overrides.schema or overrides.config or overrides.migrations:
        return _read(cwd, overrides)
    return _read(_root(cwd), overrides)


def _root(cwd: Path) -> Path:
    """``cwd`` or the nearest folder above it that is a project's, up to the repository's root; else the one below."""
    above = [cwd, *cwd.parents]
    ends = [i for i, folder in enumerate(above) if os.path.exists(folder / ".git") or folder == home()]
    for folder in above[: ends[0] + 1] if ends else [cwd]:
        if _is_root(folder):
            return folder
    below = list(_below(cwd))
    if len(below) == 1:
        return below[0]
    if not below:
        raise PrismaProjectNotFound(detail=f"there is no Prisma project in {cwd}, above it or below it")
    names = ", ".join(str(path.relative_to(cwd)) for path in below[:6])
    raise PrismaProjectNotFound(detail=f"there are several Prisma projects below {cwd}: {names}")


def _is_root(folder: Path) -> bool:
    if configfile.find(folder) is not None or _package(folder).get("schema"):
        return True
    return any(_is_schema(folder / name) for name in _SCHEMAS) and not (folder.name == "prisma" and _is_root(folder.parent))


def _is_schema(path: Path) -> bool:
    return os.path.isfile(path) or (os.path.isdir(path) and any(path.glob("*.prisma")))


def _below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Projects below, in the order of their names. A project is not searched for further ones."""
    try:
        entries = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return
    for path in entries:
        if path.name in _SKIPPED or path.name.startswith("."):
            continue
        if _is_root(path):
            yield path
        elif depth > 1:
            yield from _below(path, depth - 1)


def _read(root: Path, overrides: Overrides) -> Project:
    config = _config(root, overrides)
    notes = list(config.problems) if config else []
    schema = overrides.schema or (config and config.schema) or _schema(root)
    if schema is not None and not schema.exists():
        raise ConfigurationError(detail=f"the Prisma schema {schema} does not exist")
    migrations = overrides.migrations or (config and config.migrations) or _migrations(root, schema)
    refuse_contract(migrations)
    source = schemafile.datasource(schema) if schema is not None else schemafile.Datasource()
    _on_postgres(source.provider, schema)
    _on_postgres(provider(migrations), migrations)
    if notes:
        notes.append(
            "what code works out is not known here: set prisma.schema_file and prisma.migrations where the defaults are wrong"
        )
    url = (config.url if config else ()) or source.url
    return Project(
        root, schema, config.path if config else None, migrations, source.provider, url, _version(root), tuple(notes)
    )


def _config(root: Path, overrides: Overrides) -> configfile.ConfigFile | None:
    path = overrides.config or configfile.find(root)
    return configfile.read(path) if path is not None else None


def _schema(root: Path) -> Path | None:
    """Where Prisma looks without being told; ``prisma/schema`` is the folder of 5.15 to 6.5."""
    named = _package(root).get("schema")
    candidates = [root / str(named)] if named else [root / name for name in _SCHEMAS]
    return next((path for path in candidates if named or _is_schema(path)), None)


def _migrations(root: Path, schema: Path | None) -> Path:
    """Beside the schema file, or in the schema's folder; before 6.6 beside that folder, when that is where they are."""
    if schema is None:
        return root / "prisma" / "migrations"
    inside = (schema if schema.is_dir() else schema.parent) / "migrations"
    beside = schema.parent / "migrations"
    return beside if not inside.is_dir() and beside.is_dir() else inside


def _on_postgres(provider: str | None, where: Path | None) -> None:
    if provider is not None and provider not in POSTGRES:
        raise ConfigurationError(detail=f"{where} is for {provider}, not for PostgreSQL")


def _package(folder: Path) -> dict[str, Any]:
    """``prisma`` in package.json; empty where there is none."""
    found = _json(folder / "package.json").get("prisma")
    return found if isinstance(found, dict) else {}


def _version(root: Path) -> tuple[int, int] | None:
    """Of the installed CLI, else of what a package.json here or above asks for."""
    for folder in (root, *root.parents):
        wanted = [_json(folder / "node_modules" / "prisma" / "package.json").get("version")]
        package = _json(folder / "package.json")
        for section in ("devDependencies", "dependencies"):
            if isinstance(package.get(section), dict):
                wanted += [package[section].get(name) for name in ("prisma", "@prisma/client")]
        for text in wanted:
            if isinstance(text, str) and (match := _VERSION.search(text)):
                return int(match[1]), int(match[2])
        if os.path.exists(folder / ".git"):
            break
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
