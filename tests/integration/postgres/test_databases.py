"""Databases as a whole on every major: what is read of one is what another then is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from naap_ops.errors import ConfigurationError, DatabaseMissing, PrivilegeMissing, Refused
from naap_ops.postgres import databases
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.databases import DatabaseProps, Grant
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect

NAMES = ["plain", "two words", 'a "quoted" one', "it's % and %s \\", "ünïcödé-データ", "x" * 63, "é" * 31 + "z"]
ROLES = ("owner_role", "reader", "wri ter", "granter")
MOMENT = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)


def run(connection: Connection, statement: str, *names: str) -> None:
    connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))


@pytest.fixture
def admin(server: ScratchServer) -> Iterator[Connection]:
    """A superuser's session; every database and role made in it is gone afterwards."""
    with closing(connect(server.info)) as connection:
        before = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for role in ROLES:
            run(connection, "CREATE ROLE {} LOGIN", role)
        yield connection
        for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
            if name not in before:
                run(connection, "ALTER DATABASE {} IS_TEMPLATE false", name)
                databases.drop(connection, name)
        for role in ROLES:
            run(connection, "DROP ROLE IF EXISTS {}", role)


@pytest.fixture
def plain(admin: Connection) -> DatabaseProps:
    """The properties of a database nobody touched."""
    run(admin, "CREATE DATABASE {}", "untouched")
    return databases.properties(admin, "untouched")


def raw(connection: Connection, name: str) -> object:
    """All of pg_database and its settings but what tells two databases apart."""
    return connection.execute(
        "SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid}'::text[], shobj_description(d.oid, 'pg_database'),"
        " (SELECT jsonb_agg(jsonb_build_array(setrole::regrole, setconfig) ORDER BY setrole) FROM pg_db_role_setting"
        " WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = %s",
        [name],
    ).fetchone()


def test_untouched_databases_are_alike(admin: Connection, plain: DatabaseProps) -> None:
    assert plain.acl is None
    assert (plain.encoding, plain.provider, plain.connection_limit, plain.settings) == ("UTF8", "libc", -1, ())
    databases.create(admin, "copy", plain)
    assert databases.apply_properties(admin, "copy", plain) == []
    assert raw(admin, "copy") == raw(admin, "untouched")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names(admin: Connection, plain: DatabaseProps, name: str) -> None:
    assert not databases.exists(admin, name)
    databases.create(admin, name, replace(plain, comment=name, settings=((None, f"app.name={name}"),)))
    databases.apply_properties(admin, name, replace(plain, comment=name, settings=((None, f"app.name={name}"),)))
    assert databases.exists(admin, name)
    assert databases.properties(admin, name).comment == name
    with pytest.raises(Refused):
        databases.create(admin, name, plain)
    databases.drop(admin, name)
    databases.drop(admin, name)
    assert not databases.exists(admin, name)
    with pytest.raises(DatabaseMissing):
        databases.properties(admin, name)


SETTINGS = [
    'ALTER DATABASE {0} SET search_path = "$user", public, "Mixed Case", "with,comma", "with""quote"',
    "ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain', 'a b'",
    "ALTER DATABASE {0} SET work_mem = '17MB'",
    "ALTER DATABASE {0} SET \"app.tenant\" = 'it''s = 100%, \\ \"quoted\" ü'",
    "ALTER DATABASE {0} SET DateStyle = 'German, DMY'",
    "ALTER DATABASE {0} SET application_name = ''",
    "ALTER DATABASE {0} SET statement_timeout = 0",
    "ALTER ROLE reader IN DATABASE {0} SET search_path = ''",
    "ALTER ROLE {1} IN DATABASE {0} SET temp_tablespaces = pg_default",
    "ALTER ROLE {1} IN DATABASE {0} SET default_transaction_read_only = on",
]


def test_everything_is_carried_over(admin: Connection) -> None:
    run(admin, "CREATE DATABASE {} CONNECTION LIMIT 7 IS_TEMPLATE true", "source")
    run(admin, "COMMENT ON DATABASE {} IS 'line one\nit''s % \\ ü'", "source")
    for statement in SETTINGS:
        run(admin, statement, "source", "wri ter")
    run(admin, "ALTER DATABASE {} OWNER TO owner_role", "source")
    run(admin, "REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", "source")
    run(admin, "GRANT CREATE, CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", "source", "granter")
    run(admin, "GRANT TEMPORARY ON DATABASE {} TO {}", "source", "wri ter")
    with admin.transaction():
        admin.execute("SET LOCAL ROLE granter")
        run(admin, "GRANT CREATE ON DATABASE {} TO reader", "source")
    props = databases.properties(admin, "source")
    assert props.owner == "owner_role"
    assert Grant("reader", "CREATE", grantable=False, grantor="granter") in (props.acl or ())
    databases.create(admin, "copy", props)
    assert databases.apply_properties(admin, "copy", props) == []
    assert raw(admin, "copy") == raw(admin, "source")
    assert databases.apply_properties(admin, "copy", props) == []
    assert databases.properties(admin, "copy") == props
    run(admin, "ALTER DATABASE {} IS_TEMPLATE false", "copy")
    with pytest.raises(Refused):
        databases.drop(admin, "source")


def test_a_list_of_names_that_is_empty_stays_harmless(admin: Connection, plain: DatabaseProps) -> None:
    with admin.transaction():
        admin.execute("SELECT set_config('search_path', '', true)")
        run(admin, "ALTER DATABASE {} SET search_path FROM CURRENT", "untouched")
    props = databases.properties(admin, "untouched")
    databases.create(admin, "copy", props)
    databases.apply_properties(admin, "copy", props)
    with closing(psycopg.connect(host=admin.info.host, port=admin.info.port, user="postgres", dbname="copy")) as connection:
        assert connection.execute("SELECT current_schemas(false)").fetchone() == ([],)


def test_an_acl_without_any_right_is_not_the_default_one(admin: Connection, plain: DatabaseProps) -> None:
    run(admin, "REVOKE ALL ON DATABASE {} FROM PUBLIC, postgres", "untouched")
    bare = databases.properties(admin, "untouched")
    assert bare.acl == ()
    databases.create(admin, "copy", bare)
    databases.apply_properties(admin, "copy", bare)
    assert raw(admin, "copy") == raw(admin, "untouched")
    databases.apply_properties(admin, "copy", plain)
    row = admin.execute("SELECT has_database_privilege('reader', 'copy', 'CONNECT, TEMPORARY')").fetchone()
    assert row == (True,)
    granted = {(g.grantee, g.privilege) for g in databases.properties(admin, "copy").acl or ()}
    assert granted == {(None, "CONNECT"), (None, "TEMPORARY")} | {("postgres", p) for p in ("CREATE", "CONNECT", "TEMPORARY")}


def test_roles_that_are_not_there_are_left_out_and_named(admin: Connection, plain: DatabaseProps) -> None:
    acl = (Grant("nobody_here", "CREATE", False, "postgres"), Grant("reader", "CONNECT", False, "nobody_here"))
    settings = (("nobody_here", "work_mem=1MB"), (None, "work_mem=2MB"))
    props = replace(plain, owner="gone", acl=acl, settings=settings)
    databases.create(admin, "copy", props)
    notes = databases.apply_properties(admin, "copy", props)
    assert len(notes) == 3
    assert all("gone" in note or "nobody_here" in note for note in notes)
    now = databases.properties(admin, "copy")
    assert now.settings == ((None, "work_mem=2MB"),)
    assert now.acl == (Grant("reader", "CONNECT", False, "postgres"),)


def test_a_failure_half_way_changes_nothing(admin: Connection, plain: DatabaseProps) -> None:
    with pytest.raises(psycopg.Error):
        databases.apply_properties(admin, "untouched", replace(plain, comment="new", settings=((None, "no_such_parameter=1"),)))
    assert databases.properties(admin, "untouched") == plain


def has_icu(connection: Connection) -> bool:
    """Whether the build knows ICU: initdb then fills the catalog with its collations."""
    row = connection.execute("SELECT count(*) > 1 FROM pg_collation WHERE collprovider = 'i'").fetchone()
    return row == (True,)


def test_collation_providers(admin: Connection, plain: DatabaseProps) -> None:
    major = admin.info.server_version // 10000
    variants = {"libc": replace(plain, collate="C.UTF-8", ctype="C.UTF-8")}
    if has_icu(admin):
        rules = "&a < g" if major >= 16 else None
        variants["icu"] = replace(plain, provider="icu", collate="C", ctype="C.UTF-8", locale="de-DE", icu_rules=rules)
    if major >= 17:
        variants["builtin"] = replace(plain, provider="builtin", collate="C", ctype="C", locale="C.UTF-8")
    for name, props in variants.items():
        databases.create(admin, name, props)
        assert databases.properties(admin, name) == props
    latin = replace(plain, encoding="LATIN1")
    databases.create(admin, "latin", latin)
    assert databases.properties(admin, "latin") == latin


@pytest.mark.parametrize(
    "change",
    [
        {"collate": "xx_XX.UTF-8"},
        {"encoding": "EBCDIC"},
        {"encoding": "LATIN1", "collate": "C.UTF-8", "ctype": "C.UTF-8"},
        {"provider": "builtin", "locale": "PG_NONE"},
        {"provider": "icu", "locale": "no-such-locale-at-all"},
    ],
    ids=["collation", "encoding", "both", "builtin", "icu"],
)
def test_a_locale_this_server_does_not_have(admin: Connection, plain: DatabaseProps, change: dict[str, str]) -> None:
    if change.get("provider") == "icu" and has_icu(admin):
        pytest.skip("ICU takes any locale's name")
    with pytest.raises(ConfigurationError):
        databases.create(admin, "never", replace(plain, **change))  # type: ignore[arg-type]
    assert not databases.exists(admin, "never")


def test_a_tablespace_is_used_where_it_exists(admin: Connection, server: ScratchServer, plain: DatabaseProps) -> None:
    admin.execute("SET allow_in_place_tablespaces = on")
    admin.execute("CREATE TABLESPACE elsewhere LOCATION ''")
    try:
        databases.create(admin, "there", replace(plain, tablespace="elsewhere"))
        assert databases.properties(admin, "there").tablespace == "elsewhere"
        databases.create(admin, "here", replace(plain, tablespace="unknown here"))
        assert databases.properties(admin, "here").tablespace == "pg_default"
        databases.drop(admin, "there")
    finally:
        admin.execute("DROP TABLESPACE elsewhere")


def test_rights_that_are_missing(admin: Connection, server: ScratchServer, plain: DatabaseProps) -> None:
    with closing(connect(replace(server.info, user="reader"))) as reader:
        with pytest.raises(PrivilegeMissing, match="CREATEDB"):
            databases.create(reader, "never", plain)
        with pytest.raises(PrivilegeMissing):
            databases.drop(reader, "untouched")
        with pytest.raises(PrivilegeMissing):
            databases.apply_properties(reader, "untouched", plain)


def test_an_owner_who_is_no_superuser_carries_over_what_is_his(admin: Connection, server: ScratchServer) -> None:
    admin.execute("ALTER ROLE owner_role CREATEDB")
    with closing(connect(replace(server.info, user="owner_role"))) as owner:
        run(owner, "CREATE DATABASE {}", "source")
        run(owner, "GRANT CREATE ON DATABASE {} TO reader", "source")
        run(owner, "REVOKE ALL ON DATABASE {} FROM PUBLIC", "source")
        run(owner, "ALTER DATABASE {} SET work_mem = '3MB'", "source")
        props = databases.properties(owner, "source")
        databases.create(owner, "copy", props)
        assert databases.apply_properties(owner, "copy", props) == []
    assert raw(admin, "copy") == raw(admin, "source")


def test_dropping_ends_the_sessions(admin: Connection, database: ConnInfo) -> None:
    with closing(connect(database)) as client:
        databases.drop(admin, str(database.dbname))
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")


@pytest.mark.parametrize("base", NAMES)
def test_derived_names_fit(base: str) -> None:
    name = databases.derived_name(base, "before", MOMENT)
    assert name.endswith("__before_20261121T031500Z")
    assert len(name.encode()) <= databases.NAME_BYTES
    assert base.startswith(name.removesuffix("__before_20261121T031500Z"))
    if len(base.encode()) <= 38:
        assert name.startswith(base)
