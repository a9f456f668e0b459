"""Desks for the tests of restores: on a database with a name that needs every kind of quoting; all they make is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.desk import Desk


@pytest.fixture
def live(server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """A desk with an empty database, once per major."""
    with restored.swept(server.info):
        yield Desk(tmp_path, restored.create(server.info, restored.NAME))


@pytest.fixture
def any_live(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """A desk with an empty database, on one major."""
    with restored.swept(any_server.info):
        yield Desk(tmp_path, restored.create(any_server.info, restored.NAME))


@pytest.fixture
def any_filled(any_live: Desk) -> Desk:
    """The same with three small tables, one of which holds the word ``old``."""
    return restored.desk_with_rows(any_live)


@pytest.fixture
def script(any_filled: Desk) -> bytes:
    """What pg_dump prints of the filled database."""
    assert any_filled.info is not None
    return restored.dumped(any_filled.info)
