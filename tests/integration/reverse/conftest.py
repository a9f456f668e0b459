"""A desk with a Prisma project: three migrations, of which the first is applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests.desk import Desk
from tests.integration.reverse.projects import AGE, DROP, INIT, Project


@pytest.fixture
def project(any_database: ConnInfo, tmp_path: Path) -> Project:
    made = Project(Desk(tmp_path, any_database))
    made.add("20260101000000_init", INIT)
    made.add("20260102000000_age", AGE)
    made.add("20260103000000_no_email", DROP)
    made.deploy("20260101000000_init")
    return made
