"""The built-in `migrate deploy` beside the real one: the same folder by both, into two databases that must not differ."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from naap_ops.errors import Busy, OpsError
from naap_ops.events import Events
from naap_ops.postgres.catalog.difference import differences
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.prisma import applier
from naap_ops.prisma.codes import MigrationFailed
from naap_ops.prisma.project import find
from tests.conftest import _fresh
from tests.integration.prisma.conftest import INIT, PROFILE, TABLE, WALLET, Site
from tests.prisma.engines import Prisma

COLUMNS = "migration_name, checksum, applied_steps_count, finished_at is null, rolled_back_at is null, logs is null"
LATER = "20260401000000_later"
# Everything of it is undone but for what stands before the COMMIT.
HALF = """create table kept (i int);
commit;
create table lost (i int);
insert into lost values (1 / 0);
create table never (i int);
"""


@pytest.fixture
def other(any_server: ScratchServer) -> Iterator[ConnInfo]:
    """A second database."""
    yield from _fresh(any_server)


def deploy(site: Site, *, schema: str = "public", info: ConnInfo | None = None) -> list[str]:
    assert site.info is not None
    done = applier.deploy(info or site.info, find(site.folder), Events(), schema=schema, lock_seconds=0.3)
    return [each.name for each in done]


def failure(site: Site, schema: str = "public") -> OpsError:
    with pytest.raises(OpsError) as caught:
        deploy(site, schema=schema)
    return caught.value


def rows(info: ConnInfo, schema: str = "public") -> list[Any]:
    with closing(connect(info)) as connection:
        return connection.execute(f"select {COLUMNS} from {schema}._prisma_migrations order by started_at".encode()).fetchall()


def real(site: Site, packages: Path, info: ConnInfo) -> Prisma:
    return Prisma("6", packages, site.project, info)


@pytest.mark.long
def test_the_same_as_the_real_one(site: Site, other: ConnInfo, prisma_packages: Path) -> None:
    """Rows, and every object of the two databases; afterwards each is content with the other's work."""
    site.add("20260401000000_Crlf", "create table crlf (i int);\r\ninsert into crlf values (1);\r\n")
    site.add("20260401000000_bom", "\ufeff")
    site.add("20260402000000_alone", 'create index concurrently "User_id" on "User" (id);\n')
    site.add("20260403000000_body", "create function f() returns int language plpgsql as $$ begin return 1; end $$;\n")
    site.add("20260404000000_nothing", "-- This is an empty migration.")
    shutil.copy(site.migrations / INIT / "migration.sql", site.migrations / "stray.sql")
    (site.migrations / "20260401000000_bom" / "migration.sql").write_text("-- ünï\n", encoding="utf-8")
    prisma = real(site, prisma_packages, other)
    assert deploy(site) == prisma.deploy()
    assert site.info is not None
    assert rows(site.info) == rows(other)
    with closing(connect(site.info)) as ours, closing(connect(other)) as theirs:
        assert differences(snapshot(theirs, schema="public"), snapshot(ours, schema="public")) == []
    ours_again = real(site, prisma_packages, site.info)
    assert (ours_again.status(), ours_again.deploy()) == ("clean", [])
    assert deploy(site) == deploy(site, info=other) == []


@pytest.mark.long
def test_a_failure_is_the_same(site: Site, other: ConnInfo, prisma_packages: Path) -> None:
    site.add(LATER, HALF)
    site.add("20260501000000_never", "create table after (i int);")
    failed = failure(site)
    assert isinstance(failed, MigrationFailed)
    assert failed.exit_code == 20
    assert (failed.fields["migration"], failed.fields["statement"], failed.fields["applied"]) == (
        LATER,
        4,
        [INIT, PROFILE, WALLET],
    )
    assert failed.as_dict()["prisma"] == "P3018"
    status, told = real(site, prisma_packages, other)._run("deploy")
    assert status == 1
    assert "division by zero" in told
    assert site.info is not None
    assert rows(site.info) == rows(other)
    for info in (site.info, other):  # through its driver adapter, the real one keeps its own words
        with closing(connect(info)) as connection:
            [logs] = connection.execute("select logs from _prisma_migrations where logs is not null").fetchall()[0]
            assert "ERROR: division by zero" in logs
            tables = connection.execute("select to_regclass('kept') is null, to_regclass('lost') is null").fetchone()
            assert tables == (False, True)
    logs = site.ask("select logs from _prisma_migrations where logs is not null")
    assert logs.startswith("A migration failed to apply. New migrations cannot be applied before the error is recovered from.")
    assert f"\n\nMigration name: {LATER}\n\nDatabase error code: 22012\n\nDatabase error:\nERROR: division by zero" in logs
    assert real(site, prisma_packages, site.info).deploy() == "P3009"
    again = failure(site)
    assert (again.exit_code, again.as_dict()["prisma"]) == (23, "P3009")
    assert f"The `{LATER}` migration started at" in again.text
    assert "division by zero" in again.text


def test_a_schema_of_the_url_is_made(site: Site) -> None:
    assert deploy(site, schema='Co"re') == [INIT, PROFILE, WALLET]
    assert site.ask("""select count(*) from pg_tables where schemaname = 'Co"re'""") == 4
    assert site.ask("select count(*) from pg_tables where schemaname = 'public'") == 0


def test_what_is_refused_before_anything(site: Site) -> None:
    site.sql("create table theirs (i int)")
    assert failure(site).as_dict()["prisma"] == "P3005"
    site.sql("alter table theirs rename to spatial_ref_sys")
    (site.migrations / LATER).mkdir()
    missing = failure(site)
    assert (missing.exit_code, missing.as_dict()["prisma"]) == (3, "P3015")
    (site.migrations / LATER).rmdir()
    site.add("x" * 201, "select 1;")
    assert failure(site).as_dict()["prisma"] == "P3010"
    shutil.rmtree(site.migrations / ("x" * 201))
    site.add(LATER, "").joinpath("migration.sql").write_bytes(b"select '\xff';")
    assert "not UTF-8 (byte 8)" in failure(site).text
    (site.migrations / LATER / "migration.sql").write_bytes(b"select 1;\0 drop")
    assert "NUL" in failure(site).text
    shutil.rmtree(site.migrations / LATER)
    assert site.ask("select to_regclass('_prisma_migrations')") is None
    (site.migrations / "migration_lock.toml").write_text('provider = "mysql"\n', encoding="utf-8")
    assert failure(site).exit_code == 3


def test_what_is_applied_is_skipped_and_what_was_rolled_back_is_not(site: Site) -> None:
    site.sql(TABLE.format("public"))
    site.book(INIT, rolled_back_at="now()")
    site.book(PROFILE)
    shutil.rmtree(site.migrations / PROFILE)
    (site.migrations / PROFILE).mkdir()  # applied, so nobody reads it
    assert deploy(site) == [INIT, WALLET]
    assert site.rows(INIT) == 2


def test_scripts_do_not_touch_each_other_or_the_books(site: Site) -> None:
    """What one sets is not set in the next; Prisma, which names its table without a schema, would stop at the first."""
    site.add(
        LATER, "select set_config('search_path', '', false); set role pg_monitor; set default_transaction_read_only to on;"
    )
    site.add("20260501000000_next", "create table here (i int);")
    assert deploy(site)[-1] == "20260501000000_next"
    assert site.ask("select to_regclass('public.here')") == "here"


@pytest.mark.parametrize(
    ("script", "statement", "line", "told"),
    [
        ("create table a (i int);\nselec 1;", None, 2, "syntax error"),
        ("create table a (i int);\n\nselect b from a;", 2, 3, "does not exist"),
        ("begin;\ncreate table a (i int);", None, None, "inside of a transaction"),
        ("create table a (i int);\ncopy a from stdin;", 2, None, "COPY"),
        ("begin;\ncreate table a (i int);\nselect 1 / 0;", 3, None, "division by zero"),
        ("create table a (i int);\nselect pg_terminate_backend(pg_backend_pid());", 2, None, "terminating connection"),
    ],
)
def test_how_scripts_fail(site: Site, script: str, statement: int | None, line: int | None, told: str) -> None:
    """Always with a row that says how, and nothing of an open transaction kept."""
    site.add(LATER, script)
    failed = failure(site)
    assert isinstance(failed, MigrationFailed)
    assert (failed.fields["statement"], failed.fields["line"]) == (statement, line)
    assert told in failed.text
    assert told in site.ask(f"select logs from _prisma_migrations where migration_name = '{LATER}' and finished_at is null")
    assert site.ask("select to_regclass('a')") is None


def test_the_lock_is_prismas(site: Site) -> None:
    assert site.info is not None
    with connect(site.info) as connection:
        connection.execute("select pg_advisory_lock(72707369)")
        with pytest.raises(Busy, match=f"pid {connection.info.backend_pid}"):
            deploy(site)
