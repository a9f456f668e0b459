"""What restores leave behind, under names of every kind: listed, swapped back, dropped. Only what bears our mark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.restore import marks
from tests import restored
from tests.desk import Desk


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def word(desk: Desk, dbname: str | None = None) -> str:
    return str(desk.ask("select w from word", dbname))


def comment(desk: Desk, name: str | None = None) -> str | None:
    assert desk.info is not None
    return restored.props(desk.info, name).comment


@pytest.fixture(params=restored.NAMES, ids=range(len(restored.NAMES)))
def named(request: pytest.FixtureRequest, any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """A desk on a database of each name, with a backup that says ``old`` and a live word ``new``."""
    with restored.swept(any_server.info):
        desk = restored.desk_with_rows(Desk(tmp_path, restored.create(any_server.info, request.param)))
        prepared(desk)
        yield desk


@pytest.fixture
def plain(any_filled: Desk) -> Desk:
    prepared(any_filled)
    return any_filled


def prepared(desk: Desk) -> None:
    assert desk.info is not None
    desk.backup()
    desk.sql(f"comment on database {quoted(str(desk.info.dbname))} is 'the \"original\" ü'", "update word set w = 'new'")


def names(desk: Desk) -> set[str]:
    assert desk.info is not None
    return set(restored.databases(desk.info))


def test_swap_undo_drop(named: Desk) -> None:
    assert named.info is not None
    name = str(named.info.dbname)
    there = names(named)

    swapped = named.run("restore", "--swap", "--yes", "--json")
    assert swapped.code == 0, swapped.err
    before = swapped.json["previous"]
    assert names(named) == there | {before}
    assert (word(named), word(named, before)) == ("old", "new")
    assert comment(named) == 'the "original" ü'
    [kept] = named.run("restore.kept", "--json").json["kept"]
    assert (kept["name"], kept["of"], kept["role"]) == (before, name, "before")
    assert kept["bytes"] > 0

    undone = named.run("restore.undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    after = undone.json["previous"]
    assert "__undone_" in after
    assert names(named) == there | {after}
    assert (word(named), word(named, after)) == ("new", "old")
    assert comment(named) == 'the "original" ü'
    mark = marks.read(comment(named, after))
    assert mark is not None
    assert (mark.role, mark.of, mark.comment) == ("undone", name, 'the "original" ü')

    again = named.run("restore.undo", "--yes", "--json")
    assert again.code == 17
    assert after in again.json["hint"]
    assert (word(named), word(named, after)) == ("new", "old")

    redone = named.run("restore.undo", "--yes", "--json", "--kept", after)
    assert redone.code == 0, redone.err
    assert word(named) == "old"

    dropped = named.run("restore.drop-old", f"--old={redone.json['previous']}", "--yes", "--json")
    assert dropped.code == 0, dropped.err
    assert (dropped.json["dropped"], dropped.json["of"]) == (redone.json["previous"], name)
    assert names(named) == there
    assert word(named) == "old"
    assert named.run("restore.kept", "--json").json["kept"] == []


def test_undo_takes_the_newest_and_every_swap_keeps_its_own(plain: Desk) -> None:
    first = plain.run("restore", "--swap", "--yes", "--json").json["previous"]
    plain.sql("update word set w = 'newer'")
    second = plain.run("restore", "--swap", "--yes", "--json").json["previous"]
    assert first != second
    listed = [kept["name"] for kept in plain.run("restore.kept", "--json").json["kept"]]
    assert listed == [second, first]
    plain.run("restore.undo", "--yes")
    assert word(plain) == "newer"
    assert plain.run("restore.undo", "--yes", "--kept", first).code == 0
    assert word(plain) == "new"


def test_undo_where_the_live_database_is_gone(plain: Desk) -> None:
    plain.run("restore", "--swap", "--yes")
    plain.sql(f"drop database {quoted(restored.NAME)}", dbname="postgres")
    undone = plain.run("restore.undo", "--yes", "--json")
    assert undone.code == 0, undone.err
    assert undone.json["previous"] is None
    assert word(plain) == "new"
    assert comment(plain) == 'the "original" ü'


def test_undo_with_nothing_kept(plain: Desk) -> None:
    assert plain.run("restore.undo", "--yes").code == 17
    assert plain.run("restore.undo", "--yes", "--kept", "postgres").code == 17
    assert word(plain) == "new"


def test_undo_does_not_take_what_is_kept_of_another_database(plain: Desk, tmp_path: Path) -> None:
    """Not even where one name begins with the other."""
    assert plain.info is not None
    shorter = Desk(tmp_path, restored.create(plain.info, restored.NAME[:-1]))
    kept = plain.run("restore", "--swap", "--yes", "--json").json["previous"]
    assert shorter.run("restore.undo", "--yes").code == 17
    assert shorter.run("restore.undo", "--yes", "--kept", kept).code == 17
    assert shorter.run("restore.kept", "--json").json["kept"] == []
    everywhere = shorter.run("restore.kept", "--json", "--all-databases").json["kept"]
    assert [each["name"] for each in everywhere if each["of"] == restored.NAME] == [kept]


def test_only_marked_databases_are_dropped(plain: Desk) -> None:
    assert plain.info is not None
    foreign = f"{restored.NAME}__before_20260101T000000Z"
    told = f"{restored.NAME}__before_20260101T000001Z"
    for name in (foreign, told):
        restored.create(plain.info, name)
    # Comments that look like ours and are not.
    with closing(connect(plain.info, dbname="postgres")) as session:
        for text in ('{"naap_ops": "before"}', '{"naap_ops": {"role": "before"}}', '{"role": "before", "of": "x"}', "{"):
            session.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(told), sql.Literal(text)))
            there = names(plain)
            for name in (foreign, told, restored.NAME, "postgres", "template1", "no such"):
                refused = plain.run("restore.drop-old", name, "--yes", "--json")
                assert refused.code == 17, name
            assert plain.run("restore.undo", "--yes").code == 17
            assert names(plain) == there
    assert word(plain) == "new"


def test_what_has_come_back_is_live_and_not_dropped(plain: Desk) -> None:
    """The mark goes when the database returns, so that nobody drops it as an old one."""
    before = plain.run("restore", "--swap", "--yes", "--json").json["previous"]
    plain.run("restore.undo", "--yes")
    assert plain.run("restore.drop-old", before, "--yes").code == 17
    assert plain.run("restore.drop-old", restored.NAME, "--yes").code == 17
    assert word(plain) == "new"


def test_the_old_one_keeps_its_settings_and_gets_its_sessions_back(plain: Desk) -> None:
    assert plain.info is not None
    plain.sql(
        f"alter database {quoted(restored.NAME)} connection limit 7",
        f"alter database {quoted(restored.NAME)} set work_mem to '7MB'",
        dbname="postgres",
    )
    outside = restored.props(plain.info)
    plain.run("restore", "--swap", "--yes")
    assert restored.props(plain.info) == outside
    plain.run("restore.undo", "--yes")
    assert restored.props(plain.info) == outside
