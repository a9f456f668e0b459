"""Desks for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.desk import Desk


@pytest.fixture
def at_work(any_database: ConnInfo, tmp_path: Path) -> Desk:
    """A desk on a database with one table of three rows."""
    desk = Desk(tmp_path, any_database)
    desk.sql("create table t as select generate_series(1, 3) i")
    return desk
