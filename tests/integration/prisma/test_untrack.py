"""`invoke untrack` on a real server: the lock, the order, what is kept, what is refused, and being killed in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.prisma.advisory import KEY
from naap_ops.prisma.migrations import migrations
from tests.desk import wait_until
from tests.integration.prisma.conftest import INIT, PROFILE, TABLE, WALLET, Site
from tests.prisma.engines import Prisma


@pytest.fixture
def deployed(site: Site) -> Site:
    """All three in the books, with their checksums, without Prisma."""
    site.sql(TABLE.format("public"))
    for migration in migrations(site.migrations):
        site.book(migration.name, str(migration.sha256))
    return site


def untrack(site: Site, *words: str, migration: str = WALLET) -> dict[str, object]:
    done = site.run("untrack", "--migration", migration, "--yes", "--json", *words)
    assert done.code == 0, done.err
    return done.json


def refused(site: Site, *words: str, code: int = 17, migration: str = WALLET, **environ: str) -> str:
    done = site.run("untrack", "--migration", migration, "--yes", "--json", *words, **environ)
    assert done.code == code, done.err
    return str(done.json["message"])


def record(outcome: dict[str, object]) -> dict[str, object]:
    found = json.loads((Path(str(outcome["archive"])) / "untracked.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_rows_of_all_attempts_and_the_folder_are_kept(deployed: Site) -> None:
    (deployed.migrations / WALLET / "down.sql").write_text("drop table x;", encoding="utf-8")
    deployed.book(WALLET, logs="'boom'", finished_at="null", rolled_back_at="now()")
    whole = deployed.ask(f"select jsonb_agg(to_jsonb(t)) from _prisma_migrations t where migration_name = '{WALLET}'")
    outcome = untrack(deployed, migration="add_wal")
    assert (outcome["rows"], outcome["archived"], outcome["held"]) == (2, 2, False)
    assert deployed.rows(WALLET) == 0
    assert not (deployed.migrations / WALLET).exists()
    kept = Path(str(outcome["archive"]))
    assert sorted(path.name for path in (kept / WALLET).iterdir()) == ["down.sql", "migration.sql"]
    rows = record(outcome)["rows"]
    assert isinstance(rows, dict)
    assert sorted(rows["public"], key=str) == sorted(whole, key=str)
    assert deployed.states() == {INIT: "applied", PROFILE: "applied"}
    again = untrack(deployed)
    assert (again["rows"], again["archive"]) == (0, outcome["archive"])


def test_a_dry_run_touches_nothing(deployed: Site) -> None:
    done = deployed.run("untrack", "--migration", "latest", "--dry-run", "--json")
    assert done.json["rows"] == {"public": 1}
    assert deployed.rows(WALLET) == 1
    assert not (deployed.folder / ".naap_ops").exists()
    assert (deployed.migrations / WALLET).is_dir()


@pytest.mark.slow
def test_held_until_the_folder_is_gone_everywhere(site: Site, prisma: Prisma, tmp_path: Path) -> None:
    """A pod whose image still has the folder deploys nothing while it is held."""
    prisma.deploy()
    pod = Prisma(prisma.generation, prisma.packages, tmp_path / "pod", prisma.info)
    shutil.copytree(site.project, pod.project)
    site.sql('drop table "Wallet"')

    assert "is still there" in refused(site, "--finalise")
    held = untrack(site, "--hold")
    assert (held["rows"], held["held"]) == (0, True)
    assert site.states()[WALLET] == "held"
    assert pod.deploy() == []
    site.sql(f"delete from _prisma_migrations where migration_name = '{WALLET}'")  # a restore brought the books of before
    untrack(site, "--hold")
    assert pod.deploy() == []
    assert untrack(site, "--finalise")["rows"] == 1
    assert (prisma.status(), prisma.deploy(), site.run("status").code) == ("clean", [], 0)


def test_a_failed_one_that_is_held_stops_nobody(deployed: Site) -> None:
    deployed.sql(f"update _prisma_migrations set finished_at = null where migration_name = '{WALLET}'")
    assert untrack(deployed, "--hold", migration="failed")["held"]
    live = f"select count(*) from _prisma_migrations where migration_name = '{WALLET}' and rolled_back_at is null"
    assert deployed.ask(f"{live} and finished_at is not null") == deployed.ask(live) == 1


def test_no_row_is_legal(deployed: Site) -> None:
    deployed.sql(f"delete from _prisma_migrations where migration_name = '{WALLET}'")
    assert untrack(deployed)["rows"] == 0
    assert not (deployed.migrations / WALLET).exists()
    assert "no migration" in refused(deployed, code=11, migration="nonesuch")
    assert "fits 3 migrations" in refused(deployed, code=12, migration="2026")


@pytest.mark.slow
def test_nobody_deploys_meanwhile(site: Site, prisma: Prisma) -> None:
    """untrack waits for a locked row, holding Prisma's lock: real deploy gives up (P1002). The other way round we give up."""
    prisma.deploy()
    assert site.info is not None
    with connect(site.info, autocommit=False) as other:
        other.execute("select * from _prisma_migrations for update")
        child = site.spawn("untrack", "--migration", WALLET, "--yes", environ={"NAAP_OPS_PRISMA__LOCK_TIMEOUT": "120s"})
        wait_until(lambda: site.ask(f"select count(*) from pg_locks where objid = {KEY} and granted"))
        assert prisma.deploy() == "P1002"
        other.rollback()
    assert child.wait(60) == 0

    with connect(site.info, application_name="the other") as other:
        other.execute("select pg_advisory_lock(%s)", [KEY])
        pid = other.info.backend_pid
        site.book(PROFILE, finished_at="null")
        assert site.states()[PROFILE] == "in_progress"
        told = refused(site, code=15, migration=PROFILE, NAAP_OPS_PRISMA__LOCK_TIMEOUT="0.3s")
    assert "user postgres (the other)" in told
    assert f"pid {pid}" in told


def test_killed_between_folder_and_rows(deployed: Site) -> None:
    """SIGKILL while the rows are being deleted: the folder is gone, the row is there, and the next run finishes it."""
    deployed.sql(
        "create function wait() returns trigger language plpgsql as"
        " $$ begin perform pg_advisory_xact_lock(1); return old; end $$",
        "create trigger wait before delete on _prisma_migrations for each row execute function wait()",
    )
    assert deployed.info is not None
    with connect(deployed.info) as other:
        other.execute("select pg_advisory_lock(1)")
        child = deployed.spawn("untrack", "--migration", WALLET, "--yes")
        wait_until(lambda: deployed.ask("select count(*) from pg_locks where not granted and objid = 1"))
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not (deployed.migrations / WALLET).exists()
        assert deployed.rows(WALLET) == 1
        assert deployed.states()[WALLET] == "folder_missing"
        deployed.sql("select pg_terminate_backend(pid) from pg_locks where not granted and objid = 1")
    [begun] = (deployed.folder / ".naap_ops/archive/migrations").iterdir()
    outcome = untrack(deployed)
    assert (outcome["rows"], outcome["archive"]) == (1, str(begun))
    assert record(outcome)["state"] == "done"
    assert (begun / WALLET / "migration.sql").exists()


def test_a_folder_that_cannot_be_moved_leaves_the_row(deployed: Site) -> None:
    """The name is taken by a file in the archive's place."""
    archive = deployed.folder / ".naap_ops"
    archive.write_text("in the way", encoding="utf-8")
    refused(deployed, code=9)
    archive.unlink()
    assert deployed.rows(WALLET) == 1
    assert (deployed.migrations / WALLET / "migration.sql").exists()


def test_an_archive_inside_of_the_migrations_is_refused(deployed: Site) -> None:
    assert "P3015" in refused(deployed, code=3, NAAP_OPS_PRISMA__ARCHIVE="prisma/migrations/_archive")
    assert deployed.rows(WALLET) == 1


def test_tenants_keep_their_own_books(deployed: Site) -> None:
    [*_, wallet] = migrations(deployed.migrations)
    for tenant in ("tenant_a", "tenant_b", "other"):
        deployed.sql(f"create schema {tenant}", TABLE.format(tenant))
        deployed.book(WALLET, str(wallet.sha256), schema=tenant)
    assert "also in the books of other, tenant_a, tenant_b" in refused(deployed)
    assert "also in the books of other" in refused(deployed, "--all-tenants")
    deployed.sql("drop schema other cascade")
    outcome = untrack(deployed, "--all-tenants")
    assert outcome["rows"] == 3
    assert outcome["schemas"] == {"public": 1, "tenant_a": 1, "tenant_b": 1}
    assert deployed.rows(WALLET, "tenant_a") == deployed.rows(WALLET, "tenant_b") == deployed.rows(WALLET) == 0


def test_books_in_the_schema_of_the_url(deployed: Site) -> None:
    deployed.sql('create schema "Co re"', 'alter table _prisma_migrations set schema "Co re"')
    assert deployed.info is not None
    url = f"postgresql://postgres@localhost/{deployed.info.dbname}?host={deployed.info.host}&port={deployed.info.port}&schema=Co%20re"
    assert untrack(deployed, "--url", url)["schemas"] == {"Co re": 1}


def git(site: Site, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *who, *words], cwd=site.folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("dirty", [False, True])
def test_git_is_told(deployed: Site, ignored: bool, dirty: bool) -> None:
    """Staged in a clean tree; in a dirty one the index is left alone. The commands printed commit the move and no more."""
    if ignored:
        (deployed.folder / ".gitignore").write_text(".naap_ops/\n", encoding="utf-8")
    git(deployed, "init", "-q")
    git(deployed, "add", ".")
    git(deployed, "commit", "-qm", "all")
    if dirty:
        (deployed.project / "schema.prisma").write_text("// changed", encoding="utf-8")
    outcome = untrack(deployed)
    staged = git(deployed, "diff", "--cached", "--name-status", "--no-renames").split("\n")
    assert (f"D\tprisma/migrations/{WALLET}/migration.sql" in staged) is not dirty
    commands = outcome["commit"]
    assert isinstance(commands, list)
    identity = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in commands:
        subprocess.run(command, shell=True, check=True, env={**os.environ, **identity}, cwd="/", stdout=subprocess.DEVNULL)
    changed = git(deployed, "show", "--name-only", "--format=", "--no-renames").split()
    assert f"prisma/migrations/{WALLET}/migration.sql" in changed
    assert any(path.startswith(".naap_ops/") and path.endswith("/untracked.json") for path in changed) is not ignored
    left = git(deployed, "status", "--porcelain", "--untracked-files=no").split()
    assert left == (["M", "prisma/schema.prisma"] if dirty else [])


def test_prisma_8_is_refused(site: Site, any_database: ConnInfo) -> None:
    site.sql("create schema prisma_contract", "create table prisma_contract.marker (space text, core_hash text)")
    assert "Prisma 8" in refused(site)
    assert site.run("status").code == 17


def test_rows_that_cannot_be_deleted_leave_the_folder_in_its_place(deployed: Site) -> None:
    deployed.sql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'not these'; end $$",
        "create trigger no before delete on _prisma_migrations for each row execute function no()",
    )
    assert "not these" in refused(deployed)
    assert (deployed.rows(WALLET), (deployed.migrations / WALLET / "migration.sql").exists()) == (1, True)
    deployed.sql("drop trigger no on _prisma_migrations")
    assert untrack(deployed)["rows"] == 1


def test_interrupted_it_has_undone_what_it_says_it_has(deployed: Site) -> None:
    """While it waits for somebody who looks at the books for long."""
    before = deployed.ask("select jsonb_agg(to_jsonb(t) order by id) from _prisma_migrations t")
    assert deployed.info is not None
    deployed.sql("create table slow (i int)", "insert into slow values (1)")
    deployed.sql(
        "create function slow() returns trigger language plpgsql as $$ begin lock table slow; return old; end $$",
        "create trigger slow before delete on _prisma_migrations for each row execute function slow()",
    )
    with connect(deployed.info, autocommit=False) as other:
        other.execute("select * from slow")
        child = deployed.spawn("untrack", "--migration", WALLET, "--yes", "--json")
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'naap_ops untrack'"
        )
        wait_until(lambda: deployed.ask(waiting))
        assert not (deployed.migrations / WALLET).exists()
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert deployed.ask("select jsonb_agg(to_jsonb(t) order by id) from _prisma_migrations t") == before
    assert (deployed.migrations / WALLET / "migration.sql").exists()
