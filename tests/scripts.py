"""Plain SQL scripts as the tests of restores give them to the program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests import restored
from tests.desk import Desk, Run

PAIR = re.compile(rb"^\\(?:un)?restrict .*\n", re.MULTILINE)


def write(desk: Desk, script: bytes, name: str = "script.sql") -> str:
    """Put a script on the desk. Its name."""
    (desk.folder / name).write_bytes(script)
    return name


def load(desk: Desk, script: bytes, *words: str) -> Run:
    """Restore it, into the database ``new`` unless ``words`` say otherwise."""
    return desk.run("restore", "--file", write(desk, script), *(words or ("--into", "new")), "--yes", "--json")


@contextmanager
def nothing_left(desk: Desk) -> Iterator[None]:
    """The server has the same databases afterwards, the live one the same content."""
    assert desk.info is not None
    there, before = restored.databases(desk.info), restored.tables(desk.info)
    yield
    assert restored.databases(desk.info) == there
    assert restored.tables(desk.info) == before
