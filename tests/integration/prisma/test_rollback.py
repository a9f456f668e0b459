"""`invoke rollback` by the reverse, on a real server: schema, books and folder together; refused where it would harm."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from naap_ops import redact
from naap_ops.postgres.session import connect
from naap_ops.prisma.advisory import KEY
from naap_ops.prisma.migrations import migrations
from tests.desk import wait_until
from tests.integration.prisma.conftest import INIT, PROFILE, TABLE, WALLET, Site
from tests.prisma.engines import Prisma

pytestmark = pytest.mark.also(15, 18)

COLUMN = "20260401000000_add_balance"
INDEX = "20260501000000_index_balance"
DROP = "20260601000000_drop_balance"


def applied(site: Site, name: str, schema: str = "public") -> None:
    """Run a migration as Prisma does, and book it."""
    [folder] = [each for each in migrations(site.migrations) if each.name == name]
    script = (folder.path / "migration.sql").read_text(encoding="utf-8")
    assert site.info is not None
    with connect(site.info) as connection:
        connection.execute(f'set search_path to "{schema}"'.encode())
        for piece in script.split("--;"):
            connection.execute(piece.encode())
    site.book(name, str(folder.sha256), schema)


def deploy(site: Site, schema: str = "public") -> None:
    if schema != "public":
        site.sql(f"create schema {schema}")
    site.sql(TABLE.format(schema))
    for each in migrations(site.migrations):
        applied(site, each.name, schema)


@pytest.fixture
def deployed(site: Site) -> Site:
    """Four migrations, the last of which adds a column with values since."""
    site.add(COLUMN, 'ALTER TABLE "Wallet" ADD COLUMN "balance" INTEGER NOT NULL DEFAULT 0;\n')
    deploy(site)
    site.sql('insert into "Wallet" (id) select generate_series(1, 5)')
    return site


def shape(site: Site, schema: str = "public") -> Any:
    """Every column and index of a schema."""
    return site.ask(
        "select jsonb_agg(x order by x) from (select table_name || '.' || column_name || ' ' || data_type"
        f" from information_schema.columns where table_schema = '{schema}'"
        f" union all select indexdef from pg_indexes where schemaname = '{schema}') t(x)"
    )


def rollback(site: Site, *words: str, migration: str = "latest", code: int = 0, **environ: str) -> dict[str, Any]:
    done = site.run("rollback", "--migration", migration, "--yes", "--json", *words, **environ)
    assert done.code == code, done.err
    return done.json


def test_schema_rows_and_folder_go_together(deployed: Site) -> None:
    applied_before = deployed.ask(f"select to_jsonb(t) from _prisma_migrations t where migration_name = '{COLUMN}'")
    outcome = rollback(deployed)
    assert (outcome["migration"], outcome["strategy"], outcome["statements"]) == (COLUMN, "reverse", 1)
    assert outcome["untracked"] == {"public": [COLUMN]}
    assert "Wallet.balance integer" not in shape(deployed)
    assert deployed.rows(COLUMN) == 0
    assert not (deployed.migrations / COLUMN).exists()
    [kept] = outcome["archive"]
    record = json.loads((Path(kept) / "untracked.json").read_bytes())
    assert record["rows"] == {"public": [applied_before]}
    assert record["state"] == "done"
    assert (Path(kept) / COLUMN / "migration.sql").exists()
    assert deployed.ask('select count(*) from "Wallet"') == 5
    assert json.loads(Path(outcome["record"]).read_bytes())["migration"] == COLUMN
    assert deployed.ask("select result || ' ' || migration || ' ' || schema from naap_ops.runs") == f"done {COLUMN} public"
    assert deployed.run("status", "--json").code == 0


def test_what_is_lost_is_counted_and_said_before(deployed: Site) -> None:
    deployed.sql('update "Wallet" set balance = id where id > 2')
    shown = deployed.run("rollback", "--migration", "latest", "--no-park", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    [reverse, restore] = shown.json["ways"]
    assert reverse["possible"]
    assert reverse["lost"] == {"public.Wallet": 5}
    assert not restore["possible"]
    assert "no verified backup" in restore["problem"]
    assert deployed.rows(COLUMN) == 1
    assert "Wallet.balance integer" in shape(deployed)
    assert not (deployed.folder / ".naap_ops").exists()


def test_rows_written_since_the_backup_are_counted(deployed: Site) -> None:
    """Of a backup from before it: inserted and changed rows, exactly; deleted ones come back and are no loss."""
    deployed.sql(f"delete from _prisma_migrations where migration_name = '{COLUMN}'")
    backup = deployed.backup()
    applied_row = migrations(deployed.migrations)[-1]
    deployed.book(COLUMN, str(applied_row.sha256))
    deployed.sql(
        'insert into "User" (id) values (1), (2), (3)',
        'update "Wallet" set id = 50 where id = 5',
        'delete from "Wallet" where id = 1',
    )
    [_, restore] = deployed.run("rollback", "--migration", "latest", "--dry-run", "--json").json["ways"]
    assert restore["backup"] == backup.id
    assert restore["lost"] == {"public.User": 3, "public.Wallet": 1}


def test_what_a_subtransaction_under_way_at_the_backup_wrote_is_not_missed(deployed: Site) -> None:
    """Its id is not in the snapshot: counted rather too much than too little, and said to be about so many."""
    assert deployed.info is not None
    deployed.sql(f"delete from _prisma_migrations where migration_name = '{COLUMN}'")
    with connect(deployed.info, autocommit=False) as other:
        other.execute('insert into "User" values (1)')
        with other.transaction():
            other.execute('insert into "User" values (2)')
        deployed.sql('insert into "User" values (3)')  # seen by the backup
        deployed.backup()
        other.commit()
    deployed.book(COLUMN, str(migrations(deployed.migrations)[-1].sha256))
    [_, restore] = deployed.run("rollback", "--migration", "latest", "--dry-run", "--json").json["ways"]
    assert (restore["lost"], restore["losses"]) == ({"public.User": 3}, ["public.User: about 3 rows written since"])


def test_by_the_backup_where_the_reverse_cannot(deployed: Site) -> None:
    """Edited since: the backup from before it is the way, and the rows written since are lost and counted."""
    deployed.sql(
        f"delete from _prisma_migrations where migration_name = '{COLUMN}'", 'alter table "Wallet" drop column balance'
    )
    backup = deployed.backup()
    applied(deployed, COLUMN)
    deployed.sql('insert into "User" (id) values (1), (2)')
    (deployed.migrations / COLUMN / "migration.sql").write_text("SELECT 1;", encoding="utf-8")
    outcome = rollback(deployed)
    assert (outcome["strategy"], outcome["backup"]) == ("restore", backup.id)
    assert outcome["lost"] == {"public.User": 2}
    assert deployed.ask('select count(*) from "User"') == 0
    assert deployed.rows(COLUMN) == 0
    assert not (deployed.migrations / COLUMN).exists()
    assert "Wallet.balance integer" not in shape(deployed)


def test_a_check_that_would_stop_the_reverse_is_known_before(deployed: Site) -> None:
    """So that the plan shows the backup; it loses more than the row that does not fit, and is taken when it is asked for."""
    deployed.sql('update "Wallet" set balance = id', "create type \"Mood\" as enum ('calm')")
    deployed.sql('alter table "Wallet" add column mood "Mood"')
    backup = deployed.backup()
    deployed.add(INDEX, """ALTER TYPE "Mood" ADD VALUE 'angry';\n""")
    applied(deployed, INDEX)
    assert deployed.run("reverse", "--migration", "latest", "--from", "backup").code == 0
    assert planned_way(deployed) == ("reverse", "")
    deployed.sql("""update "Wallet" set mood = 'angry' where id = 1""")
    strategy, problem = planned_way(deployed)
    assert (strategy, "Wallet" in problem) == ("restore", True)
    assert rollback(deployed, code=17)["unfit"][0]["column"] == "mood"
    assert rollback(deployed, "--strategy", "restore")["backup"] == backup.id


def test_what_cannot_be_compared_is_for_somebody_to_choose(deployed: Site) -> None:
    """The reverse does not bring back keys that an UPDATE replaced; the backup loses what was written since."""
    backup = deployed.backup()
    deployed.add(INDEX, 'UPDATE "Wallet" SET "id" = "id" + 100;\n')
    applied(deployed, INDEX)
    assert rollback(deployed, "--dry-run", "--strategy", "restore")["strategy"] == "restore"
    told = rollback(deployed, code=17)
    assert "cannot be compared" in told["message"]
    assert [each["strategy"] for each in told["ways"]] == ["reverse", "restore"]
    assert told["ways"][0]["uncounted"] == ["values of public.Wallet.id: values that it replaced are not known any more"]
    assert told["ways"][1]["lost"] == {"public.Wallet": 5}
    assert rollback(deployed, "--strategy", "restore")["backup"] == backup.id
    assert deployed.ask('select sum(id) from "Wallet"') == 15


def planned_way(site: Site) -> tuple[str, str]:
    """What would be taken, and why the reverse would not."""
    shown = site.run("rollback", "--migration", "latest", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    return shown.json["strategy"], shown.json["ways"][0]["problem"]


def test_one_that_failed_goes_back_by_the_backup(deployed: Site) -> None:
    backup = deployed.backup()
    deployed.add(INDEX, "SELECT 1;")
    deployed.book(INDEX, finished_at="null", logs="'boom'")
    deployed.sql("create table half (id integer)")
    outcome = rollback(deployed, migration="failed")
    assert (outcome["migration"], outcome["strategy"], outcome["backup"]) == (INDEX, "restore", backup.id)
    assert deployed.ask("select to_regclass('half')") is None
    assert deployed.run("status", "--json").code == 0


def test_a_password_that_is_a_part_of_the_migrations_name_and_of_the_folder(
    deployed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_known", {COLUMN[-6:], deployed.folder.name, "public"})
    done = deployed.run("rollback", "--migration", "latest", "--yes", "--json")
    assert done.code == 0, done.err
    assert "Wallet.balance integer" not in shape(deployed)
    [entry] = (deployed.app().archive).glob("*/untracked.json")
    assert (entry.parent / COLUMN / "migration.sql").exists()
    [journal] = (deployed.folder / ".naap_ops/journal").glob("*-rollback.jsonl")
    steps = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert f"{COLUMN} in public" in {each.get("name") for each in steps}


def test_the_name_is_asked_for(deployed: Site) -> None:
    done = deployed.run("rollback", "--migration", "latest", "--json")
    assert (done.code, deployed.rows(COLUMN)) == (17, 1)


def test_later_ones_want_a_cascade(deployed: Site) -> None:
    before = shape(deployed)
    assert "later migrations are applied" in rollback(deployed, migration=PROFILE, code=17)["message"]
    assert shape(deployed) == before
    outcome = rollback(deployed, "--cascade", migration=PROFILE)
    assert outcome["migrations"] == [COLUMN, WALLET, PROFILE]
    assert [name for name in (INIT, PROFILE, WALLET, COLUMN) if deployed.rows(name)] == [INIT]
    assert sorted(path.name for path in deployed.migrations.iterdir() if path.is_dir()) == [INIT]
    assert deployed.run("status", "--json").code == 0


def test_concurrent_indexes_are_undone_outside_of_transactions(deployed: Site) -> None:
    deployed.add(INDEX, 'CREATE INDEX CONCURRENTLY "Wallet_balance_idx" ON "Wallet" ("balance");\n')
    before = shape(deployed)
    applied(deployed, INDEX)
    rollback(deployed)
    assert shape(deployed) == before
    assert deployed.rows(INDEX) == 0


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("migration", "code", "says"),
    [("nonesuch", 11, "no migration"), ("2026", 12, "fits 4 migrations"), ("failed", 11, "no migration")],
)
def test_unknown_and_ambiguous(deployed: Site, migration: str, code: int, says: str) -> None:
    assert says in rollback(deployed, migration=migration, code=code)["message"]


def test_never_applied_and_already_rolled_back(deployed: Site) -> None:
    deployed.add("20270101000000_next", "SELECT 1;")
    assert "never applied" in rollback(deployed, migration="next", code=17)["message"]
    rollback(deployed, migration=COLUMN)
    assert "was rolled back or untracked before" in rollback(deployed, migration=COLUMN, code=17)["message"]


def test_edited_since(deployed: Site) -> None:
    (deployed.migrations / COLUMN / "migration.sql").write_text("SELECT 1;", encoding="utf-8")
    assert "edited since it was run" in rollback(deployed, code=17)["message"]
    assert deployed.rows(COLUMN) == 1


def test_folder_gone(deployed: Site) -> None:
    shutil.rmtree(deployed.migrations / COLUMN)
    assert "its folder is gone" in rollback(deployed, migration=COLUMN, code=17)["message"]


def test_a_database_that_is_not_as_the_migration_left_it(deployed: Site) -> None:
    """The reverse's own guards, asked before anything is begun."""
    deployed.sql('alter table "Wallet" add column extra integer')
    told = rollback(deployed, code=17)
    assert "not the state that this reverse was written for" in told["message"]
    assert (deployed.rows(COLUMN), (deployed.migrations / COLUMN).exists()) == (1, True)
    assert "Wallet.balance integer" in shape(deployed)
    assert deployed.ask("select to_regclass('naap_ops.runs')") is None
    deployed.sql('alter table "Wallet" drop column extra')
    assert rollback(deployed)["migration"] == COLUMN  # nothing is left that would have to be resumed


def test_an_archive_that_cannot_be_made_leaves_all_as_it_was(deployed: Site) -> None:
    (deployed.folder / "in_the_way").touch()
    rollback(deployed, code=9, NAAP_OPS_PRISMA__ARCHIVE="in_the_way/archive")
    assert (deployed.rows(COLUMN), (deployed.migrations / COLUMN).exists()) == (1, True)
    assert "Wallet.balance integer" in shape(deployed)


def test_somebody_migrates(deployed: Site) -> None:
    assert deployed.info is not None
    with connect(deployed.info, application_name="the other") as other:
        other.execute("select pg_advisory_lock(%s)", [KEY])
        told = rollback(deployed, code=15, NAAP_OPS_PRISMA__LOCK_TIMEOUT="0.3s")
    assert "(the other)" in told["message"]


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_waited_for_in_turns_and_its_holder_named(deployed: Site) -> None:
    quick = {"NAAP_OPS_ROLLBACK__LOCK_TIMEOUT": "0.8s", "NAAP_OPS_ROLLBACK__ATTEMPTS": "2"}
    assert deployed.info is not None
    with connect(deployed.info, application_name="reporting", autocommit=False) as other:
        other.execute('select * from "Wallet"')
        told = rollback(deployed, code=16, **quick)
    assert "reporting" in told["message"]
    assert (deployed.rows(COLUMN), (deployed.migrations / COLUMN).exists()) == (1, True)


def test_it_gets_through_once_the_lock_is_free(deployed: Site) -> None:
    assert deployed.info is not None
    with connect(deployed.info, autocommit=False) as other:
        other.execute('select * from "Wallet"')
        child = deployed.spawn(
            "rollback", "--migration", "latest", "--yes", environ={"NAAP_OPS_ROLLBACK__LOCK_TIMEOUT": "0.2s"}
        )
        wait_until(lambda: waits(child))
        other.rollback()
        assert child.wait(60) == 0
    assert deployed.rows(COLUMN) == 0


def test_interrupted_it_says_how_to_go_on(deployed: Site) -> None:
    """By the very words that it tells."""
    assert deployed.info is not None
    with connect(deployed.info, autocommit=False) as other:
        other.execute('select * from "Wallet"')
        quick = {"NAAP_OPS_ROLLBACK__LOCK_TIMEOUT": "0.2s", "NAAP_OPS_ROLLBACK__ATTEMPTS": "1000"}
        child = deployed.spawn("rollback", "--migration", "latest", "--yes", "--json", environ=quick)
        wait_until(lambda: waits(child))
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    told = json.loads(out.splitlines()[-1])
    [words] = re.findall(r"`invoke (rollback --resume \S+)`", told["hint"])
    assert "has been undone" not in told["message"]
    assert rollback(deployed, code=17)["error"] == "ProcedureUnfinished"
    done = deployed.run(*words.split(), "--yes")
    assert done.code == 0, done.err
    assert deployed.rows(COLUMN) == 0


def waits(child: subprocess.Popen[str]) -> bool:
    """Its next line says so. Fails when it has ended instead."""
    assert child.stderr is not None
    line = child.stderr.readline()
    assert line, child.communicate()
    return "waiting for a lock" in line


# --- tenants ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tenants(site: Site) -> Site:
    """Three tenants with books of their own, the URL's schema without any."""
    site.add(COLUMN, 'ALTER TABLE "Wallet" ADD COLUMN "balance" INTEGER NOT NULL DEFAULT 0;\n')
    for each in ("tenant_a", "tenant_b", "tenant_c"):
        deploy(site, each)
    return site


def test_all_tenants_one_after_the_other(tenants: Site) -> None:
    outcome = rollback(tenants, "--all-tenants")
    assert outcome["tenants"] == dict.fromkeys(("tenant_a", "tenant_b", "tenant_c"), "done")
    for each in outcome["tenants"]:
        assert tenants.rows(COLUMN, each) == 0
        assert "Wallet.balance integer" not in shape(tenants, each)
    assert not (tenants.migrations / COLUMN).exists()
    assert len(outcome["archive"]) == 1


def test_losses_are_counted_in_the_tenant_whatever_schema_the_reverse_was_made_in(tenants: Site) -> None:
    down = tenants.run("reverse", "--migration", "latest", "--from", "history", "--json")
    assert down.code == 0, down.err
    tenants.sql('insert into "tenant_b"."Wallet" (id, balance) values (1, 10), (2, 20)')
    shown = tenants.run("rollback", "--migration", "latest", "--tenant", "b", "--no-park", "--dry-run", "--json")
    assert shown.json["ways"][0]["lost"] == {"tenant_b.Wallet": 2}
    parked = tenants.run("rollback", "--migration", "latest", "--tenant", "b", "--dry-run", "--json")
    assert (parked.json["ways"][0]["lost"], parked.json["parked"]) == ({}, {"tenant_b.Wallet": 2})


def test_one_that_fails_neither_stops_nor_hides_the_others(tenants: Site) -> None:
    tenants.sql('alter table tenant_b."Wallet" add column extra integer')
    told = rollback(tenants, "--all-tenants", code=21)
    assert sorted(told["failed"]) == ["tenant_b"]
    assert tenants.ask("select schema from naap_ops.runs where result = 'failed'") == "tenant_b"
    assert [tenants.rows(COLUMN, each) for each in ("tenant_a", "tenant_b", "tenant_c")] == [0, 1, 0]
    assert not (tenants.migrations / COLUMN).exists()
    assert "unfinished" in rollback(tenants, "--all-tenants", "--cascade", migration=WALLET, code=17)["message"]
    tenants.sql('alter table tenant_b."Wallet" drop column extra')
    done = tenants.run("rollback", "--resume", "--yes", "--json")
    assert done.code == 0, done.err
    assert tenants.rows(COLUMN, "tenant_b") == 0
    assert "Wallet.balance integer" not in shape(tenants, "tenant_b")


def test_one_tenant_keeps_a_row_while_others_need_the_folder(tenants: Site) -> None:
    outcome = rollback(tenants, "--tenant", "b")
    assert outcome["untracked"] == {}
    assert tenants.rows(COLUMN, "tenant_b") == 1
    assert "Wallet.balance integer" not in shape(tenants, "tenant_b")
    assert "Wallet.balance integer" in shape(tenants, "tenant_a")
    assert (tenants.migrations / COLUMN).exists()


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_undone_it_is_as_before(tenants: Site) -> None:
    before = {each: (shape(tenants, each), books(tenants, each)) for each in ("tenant_a", "tenant_b", "tenant_c")}
    tenants.sql('alter table tenant_b."Wallet" add column extra integer')
    rollback(tenants, "--all-tenants", code=21)
    tenants.sql('alter table tenant_b."Wallet" drop column extra')
    done = tenants.run("rollback", "--abort", "--yes", "--json")
    assert done.code == 0, done.err
    assert {each: (shape(tenants, each), books(tenants, each)) for each in before} == before
    assert (tenants.migrations / COLUMN / "migration.sql").exists()
    assert list((tenants.folder / ".naap_ops/archive/migrations").iterdir()) == []
    assert tenants.run("rollback", "--resume", "--yes", "--json").code == 11


def books(site: Site, schema: str) -> Any:
    return site.ask(f"select jsonb_agg(to_jsonb(t) order by id) from {schema}._prisma_migrations t")


def test_keep_folder_leaves_it_to_the_next_deploy(deployed: Site) -> None:
    rollback(deployed, "--keep-folder")
    assert deployed.states()[COLUMN] == "rolled_back"
    assert (deployed.migrations / COLUMN).exists()


def test_held_for_a_fleet(deployed: Site) -> None:
    rollback(deployed, "--hold")
    assert deployed.states()[COLUMN] == "held"
    assert not (deployed.migrations / COLUMN).exists()


# --- real Prisma ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_prisma_is_content_after_it(site: Site, prisma: Prisma) -> None:
    prisma.deploy()
    rollback(site)
    assert prisma.status() == "clean"
    assert prisma.deploy() == []
    rollback(site, "--cascade", migration=PROFILE)
    assert prisma.status() == "clean"
    assert prisma.deploy() == []
    assert site.ask("select string_agg(migration_name, ' ') from _prisma_migrations") == INIT
