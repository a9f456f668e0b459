"""Names that break quoting, and databases at the edges of size: nothing in them, or two thousand tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from tests import samples
from tests.desk import Desk

NAMES = {
    "spaces": " two  spaces ",
    "quotes": """'single' "double" `back`""",
    "backslash": "back\\slash\\",
    "percent": "100%s %% %(x)s",
    "unicode": "größe 日本 😀",
    "63 bytes": "x" * 63,
    "63 bytes of umlauts": "ü" * 31 + "x",
    "Mixed Case": "MiXeD.CaSe",
    "dash": "-x",
    "keywords": "host=h dbname=d",
    "url": "postgresql://u:p@h/d",
    "braces": "{a} {0}",
    "slash": "a/b/../c",
    "dots": "..",
    "semicolon": "; drop table x; --",
    "newline": "line\nbreak\ttab",
    "stars": "*[a]?",
    "dollar": "$HOME $(id)",
    "partial": "x.partial",
}


@pytest.fixture(params=list(NAMES))
def name(request: pytest.FixtureRequest) -> str:
    return NAMES[request.param]


@pytest.fixture
def named(any_server: ScratchServer, tmp_path: Path, name: str) -> Iterator[Desk]:
    """A desk on a database of that name, in which schema, table, column and role are called the same."""
    word = sql.Identifier(name)
    with closing(connect(any_server.info)) as connection:
        connection.execute(sql.SQL("create database {} template template0").format(word))
        connection.execute(sql.SQL("create role {}").format(word))
    desk = Desk(tmp_path, any_server.info.with_dbname(name))
    table = sql.SQL("create schema {0}; create table {0}.{0} ({0} text); insert into {0}.{0} values ({1})").format(word, name)
    with closing(connect(desk.info or any_server.info)) as connection:
        connection.execute(table)
        connection.execute(sql.SQL("alter table {0}.{0} owner to {0}; grant select on {0}.{0} to {0}").format(word))
    yield desk
    with closing(connect(any_server.info)) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(word))
        connection.execute(sql.SQL("drop role {}").format(word))


def test_any_name_for_database_schema_table_and_role(named: Desk, name: str) -> None:
    for format in ("directory", "custom", "plain"):
        answer = named.run("backup", "--json", "--format", format, "--jobs", "2")
        assert answer.code == 0, answer.err
        assert answer.json["database"] == name
        backup = named.listed()[0]
        manifest = backup.sound
        assert manifest.database["name"] == backup.alias == name
        assert {(t.schema, t.name): (t.rows, t.owner) for t in manifest.tables} == {(name, name): (1, name)}
        assert name in manifest.roles
    assert len(list(named.repo.iterdir())) == 1
    assert named.repo.resolve() in Path(answer.json["path"]).resolve().parents
    by_name = named.run("backup.list", "--json", "--database", name)
    assert [b["id"] for b in by_name.json["backups"]] == [b.id for b in named.listed()]
    part = named.run("backup", "--json", f"--table={name}.{name}")
    assert part.code == 0, part.err
    assert (part.json["rows"], part.json["tables"]) == (1, 1)
    part = named.run("backup", "--json", "--format", "custom", f"--schema={name}", f"--exclude-table-data={name}.{name}")
    assert part.code == 0, part.err
    assert (part.json["rows"], part.json["tables"]) == (0, 1)


@pytest.mark.parametrize(
    "label", ["pre_migration", "two words", "it's", '"', "50%", "ü 日本", "-x", "--x", "2026", "$HOME", "a" * 100, "{x}"]
)
def test_any_label(any_desk: Desk, label: str) -> None:
    answer = any_desk.run("backup", f"--label={label}", "--format", "plain", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["label"] == label
    found = any_desk.run("backup.show", f"--id={label}", "--json")
    assert found.json.get("id") == answer.json["id"], found.err
    assert any_desk.run("backup.verify", answer.json["id"]).code == 0


@pytest.mark.parametrize("label", ["latest", "a/b", "..\\x", "new\nline", "bell\a", "a" * 101, "\x1b[31m"])
def test_labels_that_are_refused(any_desk: Desk, label: str) -> None:
    answer = any_desk.run("backup", f"--label={label}")
    assert answer.code == 2
    assert "label" in answer.err or "'latest'" in answer.err
    assert not any_desk.repo.exists()


def test_a_percent_sign_in_the_password(password_server: ScratchServer, tmp_path: Path) -> None:
    secret = "100%25%"
    with closing(connect(password_server.info)) as connection:
        connection.execute(b"drop role if exists percent")
        connection.execute(f"create role percent login superuser password '{secret}'".encode())
    info = password_server.info
    url = f"postgresql://percent:{quote(secret, safe='')}@{info.host}:{info.port}/postgres"
    assert Desk(tmp_path, None).run("backup", "--url", url).code == 0
    as_it_stands = f"postgresql://percent:{secret.replace('25', '2525')}@{info.host}:{info.port}/postgres"
    assert Desk(tmp_path, None).run("backup", DATABASE_URL=as_it_stands).code == 0


@pytest.mark.parametrize("kind", ["full", "schema", "data"])
@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
def test_an_empty_database(any_desk: Desk, format: str, kind: str) -> None:
    answer = any_desk.run("backup", "--format", format, "--kind", kind, "--json")
    assert (answer.code, answer.json["tables"], answer.json["rows"]) == (0, 0, 0), answer.err
    assert answer.json["bytes"] > 0
    assert any_desk.info is not None
    checked = any_desk.run("backup.verify", "latest", "--grade", "restore", NAAP_OPS_SCRATCH_URL=to_url(any_desk.info))
    assert checked.code == 0, checked.err


def test_every_kind_of_table_in_every_format(desk: Desk) -> None:
    """Rows as they stand in each table itself: partitions and children apart from their parents, unlogged ones too."""
    desk.sql(samples.EVERYTHING)
    expected = {
        "public.User": 12,
        "DATA.t": 12,
        "ATTACH.TABLE DATA public t": 2,
        "sp ace; Type: TABLE DATA; Schema: x.quo\"te'd \\ name; Type: TABLE; Schema: y": 1,
        "public.new\nline": 3,
        "public.sixty-three bytes ......................................... end": 0,
        "public.-leading dash": 1,
        "public.100%": 1,
        "public.nothing": 2,
        "public.no_columns_no_rows": 0,
        "public.empty": 0,
        "public.fleeting": 2,
        "public.event": None,
        "DATA.event_2026": None,
        "public.parent": 2,
        "public.child": 1,
        "public.big": 5,
        "public.secret": 2,
        "ATTACH.event_2026_a": 10,
        "ATTACH.event_2026_rest": 20,
        "public.event_2025": 60,
    }
    for format in ("directory", "custom", "plain"):
        manifest = desk.backup(backup__format=format).sound
        found = {t.qualified: t.rows for t in manifest.tables}
        assert found == expected, format
        assert {t.qualified for t in manifest.tables if t.file} == (
            {name for name, rows in expected.items() if rows is not None} if format == "directory" else set()
        )


@pytest.mark.long
@pytest.mark.parametrize("format", ["directory", "plain"])
def test_two_thousand_tables(any_desk: Desk, format: str) -> None:
    """Each named on pg_dump's command line, with names as long as names can be."""
    any_desk.sql(f'create schema "{"s" * 63}"')
    make = (
        "do $$ begin for n in {0} .. {0} + 249 loop execute format('create table %I.%I (i int)', repeat('s', 63),"
        " lpad(n::text, 63, 't')); if n % 2 = 0 then execute format('insert into %I.%I values (1)', repeat('s', 63),"
        " lpad(n::text, 63, 't')); end if; end loop; end $$"
    )
    any_desk.sql(*(make.format(start) for start in range(0, 2000, 250)))
    answer = any_desk.run("backup", "--format", format, "--table", "t*", "--kind", "data", "--jobs", "2", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["tables"], answer.json["rows"]) == (2000, 1000)
    assert any_desk.run("backup.verify", "latest").code == 0
