"""The layers settings come from, each a nested dictionary whose every leaf knows its source."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import Any

from naap_ops.config.choice import OWN
from naap_ops.config.settings import DELIMITER, PREFIX
from naap_ops.errors import ConfigurationError
from naap_ops.files import expanded

FILE = "naap_ops.toml"
PYPROJECT = "pyproject.toml"
Address = tuple[str, ...]

# Kubernetes and Docker links set these in every pod beside a service called naap-ops; they are not ours.
# Switches that are no settings: NAAP_OPS_DEBUG=1 prints tracebacks; NAAP_OPS_OUTCOMES is the file in which the scheduler reads
# what became of the jobs it started.
_SWITCHES = frozenset({"NAAP_OPS_DEBUG", "NAAP_OPS_OUTCOMES"})
_SERVICE_LINK = re.compile(r"NAAP_OPS_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d\w*)")
# Flags whose name is not the setting's last word.
_FLAGS = {
    "repository": "--repo",
    "database_url": "--url",
    "reverse.shadow": "--shadow-server",
    "prisma.root": "--project",
}
# Settings that are paths.
_PATHS: tuple[Address, ...] = (
    ("repository",),
    ("env_files",),
    ("tools", "bindir"),
    ("notify", "state"),
    ("log", "file"),
    ("metrics", "textfile_dir"),
    ("staging",),
    ("s3", "ca_bundle"),
    ("encryption", "identity_file"),
    ("reverse", "migrations"),
    ("reverse", "templates"),
    ("prisma", "root"),
    ("prisma", "schema_file"),
    ("prisma", "config"),
    ("prisma", "migrations"),
    ("prisma", "archive"),
    ("state",),
)


@dataclass
class Layer:
    """Values by address (``("backup", "jobs")``), and where each came from."""

    values: dict[Address, Any] = field(default_factory=dict, repr=False)
    sources: dict[Address, str] = field(default_factory=dict)

    def put(self, address: Address, value: Any, source: str) -> None:
        """Set a leaf, or every leaf of a section."""
        if isinstance(value, dict) and (value or not address):
            for key, inner in value.items():
                self.put((*address, str(key)), inner, source)
        else:
            self.values[address] = value
            self.sources[address] = source

    def over(self, lower: Layer) -> Layer:
        """This layer on top of ``lower``."""
        return Layer({**lower.values, **self.values}, {**lower.sources, **self.sources})

    def nested(self) -> dict[str, Any]:
        """The values as the model takes them. Raises ConfigurationError where a section is also given as a plain value."""
        tree: dict[str, Any] = {}
        for address, value in self.values.items():
            node = tree
            for depth, key in enumerate(address[:-1], start=1):
                node = node.setdefault(key, {})
                if not isinstance(node, dict):
                    raise self._clash(address[:depth])
            if isinstance(node.get(address[-1]), dict) and node[address[-1]] and value != {}:
                raise self._clash(address)
            node.setdefault(address[-1], dict(value) if isinstance(value, dict) else value)
        return tree

    def _clash(self, section: Address) -> ConfigurationError:
        inside = {source for address, source in self.sources.items() if address[: len(section)] == section}
        places = " and ".join(sorted(inside))
        return ConfigurationError(detail=f"{'.'.join(section)} is a section, not a value ({places})")


def find_file(cwd: Path, home: Path) -> Path | None:
    """The settings file of ``cwd`` or of the nearest folder above it that has one.

    The search ends at the repository's root or at home; where neither lies above, only ``cwd`` counts, so that a file somebody
    left in /tmp is not obeyed. A folder that we may not look into has none.
    """
    folders = [cwd, *cwd.parents]
    ends = [i for i, folder in enumerate(folders) if folder == home or os.path.exists(folder / ".git")]
    for folder in folders[: ends[0] + 1] if ends else [cwd]:
        if os.path.isfile(folder / FILE):
            return folder / FILE
        if os.path.isfile(folder / PYPROJECT) and _table(folder / PYPROJECT, PYPROJECT) is not None:
            return folder / PYPROJECT
    return None


def from_file(path: Path, cwd: Path) -> Layer:
    """The settings in ``path``; relative paths in it count from its folder. Raises ConfigurationError."""
    name = relpath(path, cwd)
    table = _table(path, name)
    if table is None:
        raise ConfigurationError(detail=f"{name} has no [tool.naap_ops]")
    layer = Layer()
    layer.put((), table, name)
    rebase(layer, path.parent, cwd)
    return layer


def _table(path: Path, name: str) -> dict[str, Any] | None:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(detail=f"there is no settings file {name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(detail=f"{name} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(detail=f"{name} is not valid TOML: {error}") from None
    if path.name != PYPROJECT:
        return content
    tool = content.get("tool")
    table = tool.get("naap_ops") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(detail=f"tool.naap_ops in {name} is not a table")
    return table


def rebase(layer: Layer, folder: Path, cwd: Path) -> None:
    """Have the paths of ``layer`` count from ``folder``. ``tools.bindir`` becomes absolute in any case."""
    for address in _PATHS:
        value = layer.values.get(address)
        if folder == cwd and address != ("tools", "bindir"):
            continue
        if isinstance(value, (str, Path)) and str(value):
            layer.values[address] = _based(str(value), folder)
        elif isinstance(value, list):
            layer.values[address] = [_based(each, folder) if isinstance(each, str) else each for each in value]


def _based(path: str, folder: Path) -> str:
    if "://" in path:
        return path
    return str(folder / expanded(Path(path)))


def from_environment(variables: Mapping[str, str], place: str, aliases: Iterable[str], cwd: Path) -> Layer:
    """What ``NAAP_OPS_*`` says; empty variables count as unset. ``place`` is ``environment`` or the name of a ``.env`` file.

    A section can be given whole as JSON. Aliases of databases are matched whatever their case, since variables are in capitals.
    """
    spelling = {alias.lower(): alias for alias in aliases}
    layer = Layer()
    for name, value, (section, *rest) in sorted(_ours(variables), key=lambda each: len(each[2])):
        if section == "databases" and rest:
            rest[0] = spelling.get(rest[0], rest[0])
        layer.put((section, *rest), _section(value), f"{place} {name}")
    rebase(layer, cwd, cwd)
    return layer


def _ours(variables: Mapping[str, str]) -> Iterator[tuple[str, str, Address]]:
    for name, value in variables.items():
        if name.startswith(PREFIX) and value and name not in (OWN, *_SWITCHES) and not _SERVICE_LINK.fullmatch(name):
            yield name, value, tuple(name.removeprefix(PREFIX).lower().split(DELIMITER))


def _section(value: str) -> Any:
    if not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def from_flags(flags: Mapping[str, Any], cwd: Path) -> Layer:
    """Flags by dotted name; None and empty lists mean that the flag was not given."""
    layer = Layer()
    for name, value in flags.items():
        if value is not None and value != []:
            layer.put(tuple(name.split(".")), value, f"flag {flag(name)}")
    rebase(layer, cwd, cwd)
    return layer


def flag(name: str) -> str:
    """How the command line spells a setting."""
    return _FLAGS.get(name) or "--" + name.rpartition(".")[2].replace("_", "-")
