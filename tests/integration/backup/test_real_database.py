"""Backups of a real multi-schema Prisma database, in every format and kind, held against what the server says itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg import sql

from naap_ops.backup.manifest import Manifest
from naap_ops.backup.snapshot import Facts, Sessions
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from tests import samples
from tests.desk import Desk, wait_until

FORMATS = ("directory", "custom", "plain")
KINDS = ("full", "schema", "data")
SCHEMAS = 10
TABLES = 113  # the corpus' 112 and Prisma's books


def counts(info: ConnInfo, snapshot: str | None = None) -> dict[str, int]:
    """The truth: every ordinary table's rows, asked of the server, in a snapshot if one is given."""
    query = (
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where relkind = 'r' and nspname !~ '^(pg_|information_schema)'"
    )
    with connect(info, autocommit=False) as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        if snapshot:
            connection.execute(sql.SQL("set transaction snapshot {}").format(snapshot))
        found = {}
        for schema, name in connection.execute(query.encode()).fetchall():
            counted = connection.execute(
                sql.SQL("select count(*) from only {}").format(sql.Identifier(schema, name))
            ).fetchone()
            found[f"{schema}.{name}"] = counted[0] if counted else -1
    return found


def rows(manifest: Manifest) -> dict[str, int | None]:
    return {t.qualified: t.rows for t in manifest.tables}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_and_kind_holds_what_it_says_and_loads(naap_desk: Desk, format: str, kind: str) -> None:
    assert naap_desk.info is not None
    app = naap_desk.app(backup__format=format, scratch_url=to_url(naap_desk.info), backup__jobs=2, restore__jobs=2)
    backup = naap_desk.backup(kind=kind, app=app)
    truth = counts(naap_desk.info)
    assert len(truth) == TABLES
    assert sum(truth.values()) > TABLES * 5
    assert rows(backup.sound) == (dict.fromkeys(truth) if kind == "schema" else truth)
    assert backup.sound.rows == (0 if kind == "schema" else sum(truth.values()))
    assert (naap_desk.path(backup) / "schema.dump").exists() == (kind == "data")
    report = app.verify(backup, "restore")
    assert report.problems == []
    assert report.rows == backup.sound.rows
    assert backup.state == "restore"


def test_the_manifest_says_what_the_server_says(desk: Desk) -> None:
    assert desk.info is not None
    role, other = (f"{desk.info.dbname} {what}" for what in ('Ow"ner', "reader"))
    desk.sql(
        f'create role "{role.replace(chr(34), chr(34) * 2)}"',
        f'create role "{other}"',
        f'create table public.t (i int primary key); grant select on public.t to "{other}"',
        f'create schema "Sales" authorization "{role.replace(chr(34), chr(34) * 2)}"',
        "insert into public.t select generate_series(1, 12)",
    )
    samples.track(desk.info, "public", ("20260101_a", "applied"), ("20260102_b", "applied"), ("20260103_c", "failed"))
    samples.track(desk.info, "Sales", ("20260101_x", "rolled_back"))
    before = desk.ask("select pg_current_wal_insert_lsn()")
    manifest = desk.backup().sound
    try:
        assert manifest.server["version_num"] == int(desk.ask("show server_version_num"))
        assert manifest.server["version"] == desk.ask("show server_version")
        assert manifest.server["system_identifier"] == str(desk.ask("select system_identifier from pg_control_system()"))
        assert manifest.database["name"] == desk.ask("select current_database()")
        assert manifest.database["encoding"] == desk.ask("show server_encoding")
        assert manifest.database["collate"] == desk.ask("select datcollate from pg_database where datname = current_database()")
        assert {role, other} < set(manifest.roles)
        assert {s["name"]: s["owner"] for s in manifest.schemas}["Sales"] == role
        assert desk.ask(f"select '{manifest.wal_lsn}'::pg_lsn >= '{before}'::pg_lsn")
        assert desk.ask(f"select '{manifest.wal_lsn}'::pg_lsn <= pg_current_wal_insert_lsn()")
        assert desk.ask(f"select '{manifest.snapshot_at}'::timestamptz between now() - interval '5 min' and now()")
        assert manifest.started_at <= manifest.snapshot_at <= manifest.finished_at
        books = {book["schema"]: book for book in manifest.prisma}
        assert {name: book["head"] for name, book in books.items()} == {"public": "20260102_b", "Sales": None}
        assert [m["state"] for m in books["public"]["migrations"]] == ["applied", "applied", "failed"]
        assert books["public"]["migrations"][1]["checksum"] == f"{1:064}"
        assert {t.qualified: t.owner for t in manifest.tables}["public.t"] == desk.info.user
        assert manifest.tools["version"].split(".")[0] == str(manifest.server["version_num"] // 10000)
    finally:
        desk.sql(f'drop owned by "{other}"', f'drop role "{other}"')
        quoted = role.replace('"', '""')
        desk.sql(f'drop owned by "{quoted}" cascade', f'drop role "{quoted}"')


def test_extensions_are_named(any_desk: Desk) -> None:
    found = any_desk.ask("select name from pg_available_extensions where name in ('vector', 'citext', 'hstore') limit 1")
    if found is None:
        pytest.skip("the server has no extension to install")
    any_desk.sql(f"create schema ext; create extension {found} schema ext")
    version = any_desk.ask(f"select extversion from pg_extension where extname = '{found}'")
    assert any_desk.backup().sound.extensions == [{"name": found, "version": version, "schema": "ext"}]


# --- one instant --------------------------------------------------------------------------------------------------


@contextmanager
def busy(info: ConnInfo) -> Iterator[None]:
    """A session that keeps inserting one row into both tables in a transaction, and now and then deletes one from both."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with connect(info) as connection:
                number = 0
                while not stop.is_set():
                    number += 1
                    with connection.transaction():
                        connection.execute("insert into a values (%s)", [number])
                        connection.execute("insert into b values (%s)", [number])
                        if number % 3 == 0:
                            connection.execute("delete from a where i = %s", [number - 1])
                            connection.execute("delete from b where i = %s", [number - 1])
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_those_of_the_snapshot(desk: Desk, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    assert desk.info is not None
    info = desk.info
    desk.sql("create table a (i int); create table b (i int)")
    truth: dict[str, int] = {}
    read = Sessions.facts

    def facts(sessions: Sessions) -> Facts:
        """The real ones, and a count in the same snapshot by a session of our own; then more rows are committed."""
        found = read(sessions)
        now = desk.ask("select max(i) from a")
        wait_until(lambda: desk.ask("select max(i) from a") > now + 20)
        truth.update(counts(info, found.snapshot))
        return found

    monkeypatch.setattr(Sessions, "facts", facts)
    with busy(info):
        wait_until(lambda: (desk.ask("select max(i) from a") or 0) > 50)
        backup = desk.backup(backup__format=format)
    assert truth["public.a"] == truth["public.b"] > 30
    assert rows(backup.sound) == truth
    assert desk.ask("select count(*) from a") > truth["public.a"]
    report = desk.app().verify(backup, "read")
    assert (report.problems, report.rows) == ([], sum(truth.values()))


# --- parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"schemas": ["plugin_wallet"]}, {"plugin_wallet"}),
        ({"schemas": ["plugin_*"]}, "plugin_"),
        ({"plugins": ["wallet", "gateway"]}, {"plugin_wallet", "plugin_gateway"}),
    ],
)
def test_schemas(any_naap_desk: Desk, format: str, parts: dict[str, Any], expected: set[str] | str) -> None:
    assert any_naap_desk.info is not None
    manifest = any_naap_desk.backup(parts=parts, backup__format=format).sound
    truth = counts(any_naap_desk.info)
    schemas = {name.partition(".")[0] for name in truth}
    wanted = {s for s in schemas if s.startswith(expected)} if isinstance(expected, str) else expected
    assert set(manifest.scope.schemas) == wanted
    assert rows(manifest) == {name: count for name, count in truth.items() if name.partition(".")[0] in wanted}
    assert manifest.structure == "schema.dump"


@pytest.mark.parametrize("format", FORMATS)
def test_one_table_and_tables_by_pattern(any_naap_desk: Desk, format: str) -> None:
    one = any_naap_desk.backup(parts={"tables": ["public.User"]}, backup__format=format).sound
    assert rows(one) == {"public.User": samples.ROWS}
    several = any_naap_desk.backup(parts={"tables": ["Community*"]}, backup__format=format).sound
    assert len(several.tables) > 5
    assert {t.schema for t in several.tables} == {"plugin_community"}
    assert {t.rows for t in several.tables} == {samples.ROWS}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_its_rows(any_naap_desk: Desk, format: str) -> None:
    assert any_naap_desk.info is not None
    manifest = any_naap_desk.backup(parts={"exclude_table_data": ["public.User"]}, backup__format=format).sound
    truth: dict[str, int | None] = dict(counts(any_naap_desk.info))
    assert rows(manifest) == {**truth, "public.User": None}
    assert manifest.structure is None
    assert manifest.scope.text() == "all without rows of public.User"


def test_tenants_each_with_books_of_their_own(desk: Desk) -> None:
    assert desk.info is not None
    for number, slug in enumerate(("acme", "Über & Söhne", "beta"), start=1):
        desk.sql(f'create schema "tenant_{slug}"; create table "tenant_{slug}".t as select generate_series(1, {number * 10}) i')
        samples.track(desk.info, f"tenant_{slug}", *[(f"2026010{n}_m", "applied") for n in range(1, number + 1)])
    whole = desk.backup().sound
    assert {book["schema"]: book["head"] for book in whole.prisma} == {
        "tenant_acme": "20260101_m",
        "tenant_Über & Söhne": "20260102_m",
        "tenant_beta": "20260103_m",
    }
    one = desk.backup(parts={"tenants": ["Über & Söhne"]}).sound
    assert rows(one) == {"tenant_Über & Söhne.t": 20, "tenant_Über & Söhne._prisma_migrations": 2}
    answer = desk.run("backup", "--tenant", "acme", "--tenant", "beta", "--json")
    assert answer.code == 0
    assert answer.json["rows"] == 10 + 1 + 30 + 3


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--schema", "plugin_walet"), "plugin_wallet"),
        (("--table", "public.Usr"), "public.User"),
        (("--tenant", "nobody"), "There are"),
        (("--table", "pub*"), "There are"),  # a pattern of names, not of schemas; it must not fall back to everything
        (("--exclude-table-data", "nothing.here"), "There are"),
    ],
)
def test_what_matches_nothing_is_a_usage_error(any_naap_desk: Desk, words: tuple[str, ...], hint: str) -> None:
    answer = any_naap_desk.run("backup", *words)
    assert answer.code == 2
    assert "matches" in answer.err
    assert hint in answer.err
    assert not any_naap_desk.repo.exists()


def test_schemas_and_tables_at_once_are_refused(any_naap_desk: Desk) -> None:
    """pg_dump would take the tables and silently forget the schemas."""
    answer = any_naap_desk.run("backup", "--schema", "plugin_wallet", "--table", "public.User")
    assert answer.code == 2
    assert not any_naap_desk.repo.exists()
