"""SIGKILL at any instant of a rollback: --resume ends as if nothing had happened, --abort gives the state before.

An instant is before or after a statement, a line of the journal or a rename: the program counts them and kills itself at one.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.prisma.migrations import migrations
from tests.desk import Run
from tests.integration.prisma.conftest import INIT, SCHEMA, SCRIPTS, TABLE, WALLET, Site

COLUMN = "20260401000000_add_balance"
INDEX = "20260501000000_index_balance"
LAST = 121

# Wraps what changes the world, counts, and dies at the instant whose number is given; prints how many there were.
SUICIDE = """
import os, signal, sys
import psycopg
from naap_ops import cli
from naap_ops.procedure.journal import Journal
from naap_ops.rollback import rollback as procedure

at, count, counting = int(sys.argv[1]), 0, False

def instant():
    global count
    count += counting
    if counting and count == at:
        os.kill(os.getpid(), signal.SIGKILL)

def around(function):
    def wrapped(*words, **named):
        instant()
        result = function(*words, **named)
        instant()
        return result
    return wrapped

psycopg.Connection.execute = around(psycopg.Connection.execute)
psycopg.Transaction._commit_gen = around(psycopg.Transaction._commit_gen)
Journal.note = around(Journal.note)
os.rename = around(os.rename)

def begun(function):
    def wrapped(*words, **named):
        global counting
        counting = True
        try:
            return function(*words, **named)
        finally:
            counting = False
            print(f"instants {count}", file=sys.stderr)
    return wrapped

procedure.rollback = begun(procedure.rollback)
cli.main(["naap-ops", *sys.argv[2:]])
"""


@pytest.fixture
def site(any_database: ConnInfo, tmp_path: Path) -> Site:
    """Three migrations applied, the last of which builds an index outside of a transaction; all reverses at hand."""
    site = Site(tmp_path, any_database)
    site.add(INIT, SCRIPTS[INIT])
    site.add(WALLET, SCRIPTS[WALLET])
    site.add(COLUMN, "")
    site.add(INDEX, 'DROP INDEX CONCURRENTLY "old_idx";\n')
    (site.migrations / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    (site.project / "schema.prisma").write_text(SCHEMA, encoding="utf-8")
    (site.migrations / COLUMN / "migration.sql").write_text(
        'ALTER TABLE "Wallet" ADD COLUMN "balance" INTEGER NOT NULL DEFAULT 0;\n'
        'CREATE INDEX "old_idx" ON "Wallet" ("balance");\n',
        encoding="utf-8",
    )
    site.sql(TABLE.format("public"))
    with connect(any_database) as connection:
        for each in migrations(site.migrations):
            connection.execute((each.path / "migration.sql").read_bytes())
            site.book(each.name, str(each.sha256))
    site.sql('insert into "Wallet" (id) select generate_series(1, 3)')
    for name in (COLUMN, INDEX):
        done = site.run("reverse", "--migration", name, "--from", "history", "--json")
        assert done.code == 0, done.err
    return site


def world(site: Site) -> dict[str, Any]:
    """All that counts: schema, rows, books, folders."""
    return {
        "schema": site.ask(
            "select jsonb_agg(x order by x) from (select table_name || '.' || column_name || ' ' || data_type"
            " from information_schema.columns where table_schema = 'public'"
            " union all select indexdef || ' ' || indisvalid from pg_indexes join pg_index"
            " on indexrelid = to_regclass(quote_ident(indexname)) where schemaname = 'public') t(x)"
        ),
        "rows": site.ask('select count(*) from "Wallet"'),
        "books": site.ask("select jsonb_agg(to_jsonb(t) order by id) from _prisma_migrations t"),
        "folders": sorted(path.name for path in site.migrations.iterdir() if path.is_dir()),
    }


def killed(site: Site, at: int) -> Run:
    return site.program(
        "-c", SUICIDE, str(at), "rollback", "--migration", "add_balance", "--cascade", "--yes", argv0=(sys.executable,)
    )


def gone_on(site: Site, how: str) -> str:
    """Resume or abort what is unfinished; "" where nothing is."""
    done = site.run("rollback", f"--{how}", "--yes", "--json")
    assert done.code in (0, 11), done.err
    return how if done.code == 0 else ""


def test_there_are_as_many_instants_as_the_tests_try(site: Site) -> None:
    done = killed(site, 0)
    assert done.code == 0, done.err
    [line] = [line for line in done.err.splitlines() if line.startswith("instants ")]
    assert int(line.split()[1]) >= LAST, line


@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("part", range(4))
def test_killed_at_some_instants(site: Site, how: str, part: int) -> None:
    """One of four places, spread over the whole: the ordinary run's sample of the long test."""
    _killed_and_gone_on(site, how, at=8 + part * 22)


@pytest.mark.long
@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("at", range(1, LAST, 4))
def test_killed_at_every_fourth_instant(site: Site, how: str, at: int) -> None:
    _killed_and_gone_on(site, how, at)


def _killed_and_gone_on(site: Site, how: str, at: int) -> None:
    before = world(site)
    done = killed(site, at)
    went = gone_on(site, how)
    assert done.code == -signal.SIGKILL, done.err
    now = world(site)
    if went == "abort":
        assert now == before
        return
    if not went and now["folders"] == before["folders"]:  # killed before it was begun, or after it was over
        assert now == before
        again = site.run("rollback", "--migration", "add_balance", "--cascade", "--yes", "--json")
        assert again.code == 0, again.err
        now = world(site)
    assert now["folders"] == [INIT, WALLET]
    assert len(now["books"]) == 2
    assert now["rows"] == 3
    assert not [line for line in now["schema"] if "balance" in line or "old_idx" in line]
    assert site.run("status", "--json").code == 0
    assert gone_on(site, "resume") == ""
