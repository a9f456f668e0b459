"""Desks for faults: on an empty database, and on one big enough that something can happen while it is dumped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests.desk import Desk

BIG = "naap_ops tests: big"
BIG_TABLES = 4


@pytest.fixture
def desk(any_database: ConnInfo, tmp_path: Path) -> Desk:
    return Desk(tmp_path, any_database)


@pytest.fixture
def big(any_server: ScratchServer, tmp_path: Path) -> Desk:
    """About 40 MB in tables ``big1`` ... and a ``small`` one; dumped with gzip:9 it takes seconds. Read only."""
    info = any_server.info.with_dbname(BIG)
    with closing(connect(any_server.info)) as connection:
        there = connection.execute("select 1 from pg_database where datname = %s", [BIG]).fetchone()
        if there is None:
            connection.execute(f'create database "{BIG}" template template0'.encode())
    desk = Desk(tmp_path, info)
    if there is None:
        rows = "select i, md5(i::text) || md5((-i)::text) || md5((i * 7)::text) t from generate_series(1, 75000) i"
        desk.sql(*(f"create table big{n} as {rows}" for n in range(1, BIG_TABLES + 1)), "create table small as select 1 i")
    desk.settings("[backup]\njobs = 2\ncompression = 'gzip:9'\n")
    return desk
