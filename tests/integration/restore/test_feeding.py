"""An archive's rows on their way into a session of ours, however the pieces are cut."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.backup.copytext import NotCopyText
from naap_ops.postgres.session import connect
from naap_ops.restore.feeding import RowFeeder, run_structure
from tests import restored
from tests.desk import Desk

SAMPLE = """
create table t ("col (""x"") FROM stdin;
" int, s text);
insert into t select i, E'\\\\.\\n\\\\.' || i from generate_series(1, 500) i;
create table empty (i int);
create table one (s text); insert into one values ('\\.');
create table nothing (); insert into nothing default values;
create sequence q; select nextval('q');
"""


def printed(desk: Desk, folder: Path, section: str) -> bytes:
    """What pg_restore prints of a section."""
    assert desk.info is not None
    path = folder / "archive"
    path.write_bytes(restored.dumped(desk.info, "-Fc"))
    command = restored.tools(desk.info).command("pg_restore", ["-f", "-", f"--section={section}", str(path)], desk.info)
    return process.run(command.argv, env=command.env)[1]


@pytest.mark.parametrize("seed", range(4))
def test_cut_into_pieces(any_live: Desk, tmp_path: Path, seed: int) -> None:
    any_live.sql(SAMPLE)
    assert any_live.info is not None
    before = restored.content(any_live.info)
    structure, rows = printed(any_live, tmp_path, "pre-data"), printed(any_live, tmp_path, "data")
    any_live.sql("drop table t, empty, one, nothing; drop sequence q")
    chance = random.Random(seed)
    counted: list[int] = []
    with closing(connect(any_live.info, autocommit=False)) as connection, connection:
        run_structure(connection, structure)
        with RowFeeder(connection, counted.append) as feeder:
            while rows:
                size = chance.choice((1, 2, 3, 4, 7, 64, 1000)) if seed else len(rows)
                feeder.feed(rows[:size])
                rows = rows[size:]
            feeder.finish()
    assert sorted(counted) == [0, 1, 1, 500]
    assert restored.content(any_live.info) == before


def test_cut_short(any_live: Desk, tmp_path: Path) -> None:
    any_live.sql(SAMPLE)
    assert any_live.info is not None
    rows = printed(any_live, tmp_path, "data")
    any_live.sql("truncate t, empty, one, nothing")
    cut = rows[: rows.index(b"\n\\.\n", rows.index(b"COPY public.t")) - 10]

    def feed() -> None:
        assert any_live.info is not None
        with (
            closing(connect(any_live.info, autocommit=False)) as connection,
            connection,
            RowFeeder(connection, lambda _: None) as feeder,
        ):
            feeder.feed(cut)
            feeder.finish()

    with pytest.raises(NotCopyText):
        feed()
    assert any_live.ask("select count(*) from t") == 0
