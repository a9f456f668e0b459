"""The golden cases: ``<family>.yaml`` beside this file, a list of ``{name, before, up, down, loss}``.

``before`` and ``up`` are SQL; ``down`` is the exact text of the reverse, its statements joined by ``;`` and a line feed, and
without the schema that unqualified names mean (``{schema}`` stands for it). ``loss``, in order:
``kind relation.column`` each (``kind relation`` for rows, ``kind`` alone where there is none). Instead of ``down``:
``refused``, a text that the reason must contain.
Optional: ``major``, the least that has what the case is about; ``until``, the last major to which the text applies;
``extension``, which the server must have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
ROLES = ("reader_golden", "writer_golden", 'Odd "role" 50%')
"""Roles that cases can name; they own nothing before a case."""

TABLESPACE = "golden"
"""One that cases can name."""

_FIELDS = frozenset({"name", "before", "up", "down", "loss", "refused", "major", "until", "extension"})


@dataclass(frozen=True)
class Case:
    """One golden case; ``down`` is None for one that must be refused."""

    family: str
    name: str
    before: str
    up: str
    down: str | None
    loss: tuple[str, ...]
    refused: str | None
    major: int
    until: int
    extension: str | None

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def read(family: str, data: Any) -> list[Case]:
    """The cases of a parsed file. Raises ValueError for one that says nothing of what must come out."""
    cases = [_case(family, entry) for entry in data]
    names = [case.name for case in cases]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{family}: two cases are called {sorted(doubles)}")
    return cases


def _case(family: str, entry: dict[str, Any]) -> Case:
    where = f"{family}: {entry.get('name')}"
    if unknown := entry.keys() - _FIELDS:
        raise ValueError(f"{where}: unknown fields {sorted(unknown)}")
    if missing := {"name", "before", "up"} - entry.keys():
        raise ValueError(f"{where}: lacks {sorted(missing)}")
    if ("down" in entry) == ("refused" in entry):
        raise ValueError(f"{where}: there must be either down or refused")
    if "down" in entry and "loss" not in entry:
        raise ValueError(f"{where}: loss must be said, [] where there is none")
    down = entry.get("down")
    return Case(
        family, entry["name"], entry["before"] or "", entry["up"], None if "refused" in entry else (down or "").strip(),
        tuple(entry.get("loss") or ()), entry.get("refused"), int(entry.get("major", 0)), int(entry.get("until", 99)),
        entry.get("extension"),
    )  # fmt: skip


def load() -> list[Case]:
    """Every case of every family."""
    return [case for file in sorted(FOLDER.glob("*.yaml")) for case in read(file.stem, yaml.safe_load(file.read_text()) or [])]
