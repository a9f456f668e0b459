"""A place where a rollback happens: three migrations applied, the last of which drops an index outside of a transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.prisma.migrations import migrations
from tests.integration.prisma.conftest import INIT, SCHEMA, SCRIPTS, TABLE, WALLET, Site

COLUMN = "20260401000000_add_balance"
INDEX = "20260501000000_index_balance"
WORDS = ("rollback", "--migration", "add_balance", "--cascade", "--yes", "--json")


def place(database: ConnInfo, folder: Path) -> Site:
    """With all reverses at hand."""
    site = Site(folder, database)
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
    with connect(database) as connection:
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


def assert_rolled_back(site: Site) -> None:
    """Schema, books and folders are as before the last two, the rows are there, and nothing is left to do."""
    now = world(site)
    assert now["folders"] == [INIT, WALLET]
    assert len(now["books"]) == 2
    assert now["rows"] == 3
    assert not [line for line in now["schema"] if "balance" in line or "old_idx" in line]
    assert site.run("status", "--json").code == 0
    assert site.run("rollback", "--resume", "--yes").code == 11
