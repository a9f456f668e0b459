"""Desks for the tests of backups: on an empty database, and on the corpus' multi-schema one, which tests only read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import samples
from tests.desk import Desk

NAAP = "naap_ops tests: corpus"


@pytest.fixture
def desk(database: ConnInfo, tmp_path: Path) -> Desk:
    """A desk with a fresh empty database, once per major."""
    return Desk(tmp_path, database)


@pytest.fixture
def any_desk(any_database: ConnInfo, tmp_path: Path) -> Desk:
    """A desk with a fresh empty database, on one major."""
    return Desk(tmp_path, any_database)


@pytest.fixture
def naap_desk(server: ScratchServer, tmp_path: Path) -> Desk:
    """A desk with the corpus' database, once per major. It stays for the next test: read only."""
    return Desk(tmp_path, _naap(server))


@pytest.fixture
def any_naap_desk(any_server: ScratchServer, tmp_path: Path) -> Desk:
    """The same on one major."""
    return Desk(tmp_path, _naap(any_server))


def _naap(server: ScratchServer) -> ConnInfo:
    info = server.info.with_dbname(NAAP)
    with closing(connect(server.info)) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", [NAAP]).fetchone():
            return info
        connection.execute(f'create database "{NAAP}" template template0'.encode())
        try:
            samples.naap(info)
        except BaseException:  # skipped, too: the next test must not take an empty database for the corpus
            connection.execute(f'drop database "{NAAP}" with (force)'.encode())
            raise
    return info
