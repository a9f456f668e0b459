"""A restore in two parts: a database left ready beside the live one, and put in place later, by somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.errors import Refused
from naap_ops.events import Events
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from naap_ops.restore import ready
from naap_ops.restore.outcome import RestoreOptions
from naap_ops.restore.ready import Loaded
from naap_ops.restore.source import BackupSource
from tests import restored
from tests.desk import Desk

OPTIONS = RestoreOptions(jobs=1)
MINE = "20261121T000000Z-emergency-abcd"


@pytest.fixture
def desk(server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """With a backup that says ``old`` and a live database that says ``new``."""
    with restored.swept(server.info):
        desk = restored.desk_with_rows(Desk(tmp_path, restored.create(server.info, restored.NAME)))
        desk.backup()
        desk.sql("update word set w = 'new'")
        yield desk


def info_of(desk: Desk) -> ConnInfo:
    assert desk.info is not None
    return desk.info


def load(desk: Desk) -> Loaded:
    def settle(connection: Connection) -> None:
        connection.execute("insert into word values ('settled')")

    source = BackupSource(desk.app().repository.find("latest", info_of(desk).dbname), restored.tools(info_of(desk)))
    return ready.load(source, info_of(desk), OPTIONS, Events(), procedure=MINE, settle=settle)


def words(desk: Desk) -> str:
    return str(desk.ask("select string_agg(w, ' ' order by w) from word"))


def connections(desk: Desk, name: str, allowed: bool) -> None:
    statement = sql.SQL("alter database {} allow_connections {}").format(sql.Identifier(name), allowed)
    with closing(connect(info_of(desk), dbname="postgres")) as session:
        session.execute(statement)


def open_ones(desk: Desk) -> list[str]:
    return restored.column(info_of(desk).with_dbname("postgres"), "select datname from pg_database where datallowconn")


def test_loaded_now_and_published_later(desk: Desk) -> None:
    """Another restore neither sweeps it nor is confused by it; the live database may refuse connections, and so may it."""
    loaded = load(desk)
    assert words(desk) == "new"
    assert (loaded.rows, loaded.tables) == (201, 3)
    listed = desk.run("restore.kept", "--json").json["kept"]
    assert [(each["name"], each["role"]) for each in listed] == [(loaded.name, "ready")]
    assert desk.run("restore.undo", "--yes").code == Refused.exit_code
    assert desk.run("restore", "--swap", "--yes").code == 0
    assert words(desk) == "old"
    assert ready.find(info_of(desk), "another") is None
    assert ready.published(info_of(desk), MINE) is None

    live = info_of(desk).dbname or ""
    for name in (live, loaded.name):
        connections(desk, name, allowed=False)
    old, seconds = ready.put_in_place(info_of(desk), OPTIONS, Events(), procedure=MINE)
    assert words(desk) == "old settled"
    assert 0 < seconds < 30
    assert {live, old.name} <= set(open_ones(desk))
    assert desk.ask("select oid::bigint from pg_database where datname = current_database()") == loaded.oid
    assert ready.published(info_of(desk), MINE) == old
    assert ready.find(info_of(desk), MINE) is None
    assert desk.ask("select w from word", dbname=old.name) == "old"


def test_taken_back(desk: Desk) -> None:
    load(desk)
    assert ready.take_back(info_of(desk), OPTIONS, Events(), procedure=MINE) is None
    ready.put_in_place(info_of(desk), OPTIONS, Events(), procedure=MINE)
    outcome = ready.take_back(info_of(desk), OPTIONS, Events(), procedure=MINE)
    assert outcome is not None
    assert words(desk) == "new"
    assert desk.ask("select count(*) from word", dbname=outcome.previous) == 2
    assert ready.published(info_of(desk), MINE) is None
    assert ready.take_back(info_of(desk), OPTIONS, Events(), procedure=MINE) is None


def test_dropped(desk: Desk) -> None:
    """By the procedure, or by the operator; then there is nothing to put in place."""
    loaded = load(desk)
    assert ready.drop_ready(info_of(desk), MINE) == loaded.name
    assert ready.drop_ready(info_of(desk), MINE) is None
    loaded = load(desk)
    assert desk.run("restore.drop-old", loaded.name, "--yes").code == 0
    with pytest.raises(Refused, match="is ready"):
        ready.put_in_place(info_of(desk), OPTIONS, Events(), procedure=MINE)
    assert restored.ours(info_of(desk), "restore") == []
    assert words(desk) == "new"


def test_what_cannot_be_settled_is_not_left(desk: Desk) -> None:
    def spoil(connection: Connection) -> None:
        connection.execute("select 1 / 0")

    source = BackupSource(desk.app().repository.find("latest", info_of(desk).dbname), restored.tools(info_of(desk)))
    with pytest.raises(Refused, match="division by zero"):
        ready.load(source, info_of(desk), OPTIONS, Events(), procedure=MINE, settle=spoil)
    assert restored.ours(info_of(desk), "restore") == []
