"""`invoke deploy` on a real server: ways back first, then the migrations; what stands in the way, and what fails half-way."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from naap_ops.deploys import ways_back
from naap_ops.errors import ProgramMissing
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.prisma.advisory import KEY
from tests.desk import wait_until
from tests.integration.prisma.conftest import INIT, PROFILE, WALLET, Site
from tests.prisma.engines import Prisma

CHECKED = "20260401000000_positive_ids"
AFTER = "20260501000000_add_badge"
# Runs on an empty shadow, and fails on the rows of the live database.
POSITIVE = """ALTER TABLE "Wallet" ADD COLUMN "note" TEXT;

ALTER TABLE "Wallet" ADD CONSTRAINT "positive" CHECK ("id" > 0);
"""
BADGE = 'CREATE TABLE "Badge" ("id" INTEGER NOT NULL);\n'


def deploy(site: Site, *words: str, code: int = 0) -> dict[str, Any]:
    done = site.run("deploy", "--yes", "--json", *words)
    assert done.code == code, done.err
    return done.json


@pytest.fixture
def failing(site: Site) -> Site:
    """Three applied, with a row that the next one cannot stand, and one more behind that."""
    deploy(site)
    site.sql('insert into "Wallet" values (-1)')
    site.add(CHECKED, POSITIVE)
    site.add(AFTER, BADGE)
    return site


def test_backup_reverses_migrations_record(site: Site) -> None:
    done = deploy(site)
    assert done["applied"] == [INIT, PROFILE, WALLET]
    assert [(each["state"], each["reverse"]) for each in done["migrations"]] == [("applied", "proved")] * 3
    [backup] = site.listed()
    assert (backup.id, backup.sound.label, backup.verified is not None) == (done["backup"], "pre_deploy", True)
    assert backup.sound.prisma == []  # from before
    assert all((site.migrations / name / "down.sql").exists() for name in (INIT, PROFILE, WALLET))
    kept = json.loads(Path(done["record"]).read_bytes())
    assert (kept["outcome"], kept["backup"], kept["applied"]) == ("done", backup.id, done["applied"])
    assert [each["name"] for each in kept["steps"]] == ["backup", "reverse", "look", "migrate", "status"]
    assert kept["before"] == dict.fromkeys(done["applied"], "pending")
    assert kept["after"] == dict.fromkeys(done["applied"], "applied")
    assert backup.id in Path(done["record"]).with_suffix(".md").read_text(encoding="utf-8")
    assert site.run("status").code == 0


def test_nothing_pending_takes_no_backup(site: Site) -> None:
    deploy(site)
    again = deploy(site)
    assert again["applied"] == []
    assert len(site.listed()) == 1


def test_dry_run_touches_nothing(site: Site) -> None:
    site.add(CHECKED, 'DROP TABLE "Wallet";\n')
    shown = deploy(site, "--dry-run")
    assert [(each["name"], each["reverse"]) for each in shown["migrations"]][-1] == (CHECKED, "proved")
    assert any(CHECKED in danger for danger in shown["dangers"])
    assert not site.repo.exists()
    assert not (site.folder / ".naap_ops").exists()
    assert not list(site.migrations.glob("*/down.*"))
    assert site.ask("select to_regclass('_prisma_migrations')") is None


def test_a_failure_on_live_rows_is_named_and_can_be_mended(failing: Site) -> None:
    failed = deploy(failing, code=20)
    assert (failed["migration"], failed["statement"], failed["left"]) == (CHECKED, 2, [AFTER])
    assert failed["prisma"] == "P3018"
    assert (failed["progress"]["upto"], failed["progress"]["of"]) == (0, 2)
    assert 'check constraint "positive"' in failed["message"]
    assert 'ADD CONSTRAINT "positive"' in failed["message"]
    assert "violated by some row" in failed["logs"]
    for offer in (
        "Nothing of it took effect",
        f"invoke resolve --rolled-back {CHECKED}",
        "invoke rollback --migration failed",
        f"invoke restore --backup {failed['backup']} --swap",
    ):
        assert offer in failed["hint"]
    kept = [json.loads(path.read_bytes()) for path in sorted((failing.folder / ".naap_ops/records").glob("*.json"))]
    assert [each["outcome"] for each in kept] == ["done", "failed"]
    assert kept[1]["error"]["migration"] == CHECKED
    assert [each["state"] for each in kept[1]["migrations"]] == ["failed", "pending"]
    refused = deploy(failing, code=23)
    assert refused["prisma"] == "P3009"
    assert len(failing.listed()) == 2
    failing.sql('delete from "Wallet"')
    assert failing.run("resolve", "--rolled-back", CHECKED, "--yes").code == 0
    assert deploy(failing)["applied"] == [CHECKED, AFTER]


def test_half_of_a_script_that_commits_is_not_called_nothing(failing: Site) -> None:
    script = 'BEGIN;\nALTER TABLE "Wallet" ADD COLUMN "note" TEXT;\nCOMMIT;\nALTER TABLE "Wallet" ADD CHECK ("id" > 0);\n'
    (failing.migrations / CHECKED / "migration.sql").write_text(script, encoding="utf-8")
    failed = deploy(failing, code=20)
    assert failed["statement"] == 4
    assert "Nothing of it took effect" not in failed["hint"]
    assert "rollback --migration failed --keep-folder" in failed["hint"]
    assert "3 of its 4 statements took effect" in failed["message"]
    assert failed["progress"]["upto"] == 3
    assert [each["took_effect"] for each in failed["progress"]["statements"]] == ["yes", "yes", "yes", "no"]


def test_the_offers_lead_back(failing: Site) -> None:
    """The backup that is named restores the database as it was before, books included."""
    failed = deploy(failing, code=20)
    assert failing.run("restore", "--backup", failed["backup"], "--swap", "--yes").code == 0
    assert failing.ask('select id from "Wallet"') == -1
    assert failing.rows(CHECKED) == 0


def test_a_migration_that_does_not_run_stops_before_anything(site: Site) -> None:
    site.add(AFTER, 'ALTER TABLE "Nobody" ADD COLUMN "x" INTEGER;\n')
    refused = deploy(site, code=18)
    assert AFTER in refused["message"]
    assert f"--allow-unproved {AFTER}" in refused["hint"]
    assert site.ask("select to_regclass('_prisma_migrations')") is None


def test_a_reverse_that_cannot_be_given_wants_a_word(site: Site) -> None:
    site.add(AFTER, "DROP DATABASE IF EXISTS nobody_has_this_one;\n")
    refused = deploy(site, code=18)
    assert f"--allow-unproved {AFTER}" in refused["hint"]
    assert site.ask("select to_regclass('_prisma_migrations')") is None
    unknown = deploy(site, "--allow-unproved", "nonsense", code=11)
    assert "nonsense" in unknown["message"]
    done = deploy(site, "--allow-unproved", AFTER)
    assert done["applied"] == [INIT, PROFILE, WALLET, AFTER]
    assert done["migrations"][-1]["reverse"] != "proved"


def test_backups_that_will_not_do(site: Site) -> None:
    assert site.run("deploy", "--no-backup").code == 17
    assert deploy(site, "--no-backup", "--backup", "latest", code=2)
    assert deploy(site, "--backup", "latest", code=11)
    schema_only = site.backup(kind="schema")
    assert "does not hold all" in deploy(site, "--backup", schema_only.id, code=17)["message"]
    assert site.ask("select to_regclass('_prisma_migrations')") is None
    whole = site.backup()
    assert deploy(site, "--backup", whole.id)["backup"] == whole.id
    assert len(site.listed()) == 2
    site.add(AFTER, BADGE)
    without = deploy(site, "--no-backup")
    assert without["backup"] is None
    assert any("--no-backup" in note for note in without["notes"])


def test_somebody_who_migrates_is_named(site: Site) -> None:
    assert site.info is not None
    with connect(site.info, application_name="another") as other:
        other.execute("select pg_advisory_lock(%s)", [KEY])
        refused = deploy(site, code=15)
    assert "another" in refused["message"]
    assert not site.repo.exists()


def test_the_configured_command(site: Site) -> None:
    """It runs in the project's root with the database's URL, and its word is not taken for it."""
    site.settings('[deploy]\ncommand = ["sh", "-c", "pwd; echo $DATABASE_URL | cut -c1-13; echo nothing done"]\n')
    lazy = site.run("deploy", "--yes", "--json")
    assert lazy.code == 23, lazy.err
    assert f"{site.folder}\npostgresql://\nnothing done" in lazy.err
    assert WALLET in lazy.json["message"]
    site.settings('[deploy]\ncommand = ["sh", "-c", "echo cannot >&2; exit 7"]\n')
    failed = deploy(site, code=20)
    assert (failed["migration"], failed["left"]) == (None, [INIT, PROFILE, WALLET])
    assert "status 7: cannot" in failed["message"]
    site.settings('[deploy]\ncommand = ["sleep", "600"]\ntimeout = "1s"\n')
    assert "after 1 s" in deploy(site, code=20)["message"]


@pytest.mark.parametrize("setting", ["command", "status"])
def test_a_configured_program_that_is_not_there(site: Site, setting: str) -> None:
    """Found before the backup."""
    site.settings(f'[deploy]\n{setting} = ["no_such_program"]\n')
    assert "no_such_program" in deploy(site, code=ProgramMissing.exit_code)["message"]
    assert site.listed() == []
    assert site.ask("select to_regclass('_prisma_migrations')") is None


def test_killed_in_the_middle_the_next_one_goes_on(site: Site) -> None:
    site.settings('[deploy]\ncommand = ["sh", "-c", "touch begun; exec sleep 600"]\n')
    child = site.spawn("deploy", "--yes")
    wait_until((site.folder / "begun").exists)
    busy = deploy(site, code=15)
    assert "deploy" in busy["message"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    site.settings("")
    assert deploy(site)["applied"] == [INIT, PROFILE, WALLET]
    ends = [path.read_text(encoding="utf-8").splitlines()[-1] for path in (site.folder / ".naap_ops/journal").glob("*.jsonl")]
    assert sorted(json.loads(end)["outcome"] for end in ends) == ["done", "failed"]


def test_interrupted_it_says_what_is_applied(site: Site) -> None:
    site.settings('[deploy]\ncommand = ["sh", "-c", "touch begun; exec sleep 600"]\n')
    child = site.spawn("deploy", "--yes", "--json")
    wait_until((site.folder / "begun").exists)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    told = json.loads(out.splitlines()[-1])["message"]
    assert "at its step migrate" in told
    assert f"{WALLET}: pending" in told
    [record] = (site.folder / ".naap_ops/records").glob("*.json")
    assert json.loads(record.read_bytes())["error"]["message"] == told


@pytest.mark.parametrize("prisma", ["6"], indirect=True)
def test_by_real_prisma(failing: Site, prisma: Prisma) -> None:
    """Of a failure of its own, statement and words are read from the row's log."""
    names = ("NAAP_OPS_", "PRISMA_", "CHECKPOINT_")
    given = [f"{name}={value}" for name, value in prisma.environ.items() if name.startswith(names)]
    words = ["env", *given, *map(str, prisma.argv("deploy"))]
    failing.settings(f"[deploy]\ncommand = {json.dumps(words)}\n")
    failed = deploy(failing, code=20)
    assert (failed["migration"], failed["left"]) == (CHECKED, [AFTER])
    assert 'check constraint "positive"' in failed["message"]
    failing.sql('delete from "Wallet"')
    assert failing.run("resolve", "--rolled-back", "failed", "--yes").code == 0
    assert deploy(failing)["applied"] == [CHECKED, AFTER]
    assert prisma.status() == "clean"


def test_what_changes_after_the_first_look_is_not_deployed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited script was neither shown nor proved."""
    proved = ways_back.reverse

    def edited_meanwhile(*words: Any, **options: Any) -> Any:
        made = proved(*words, **options)
        (site.migrations / WALLET / "migration.sql").write_text(BADGE, encoding="utf-8")
        return made

    monkeypatch.setattr(ways_back, "reverse", edited_meanwhile)
    assert "have changed" in deploy(site, code=17)["message"]
    assert site.ask("select to_regclass('_prisma_migrations')") is None


def test_drift_is_refused_where_that_is_wanted(site: Site) -> None:
    """On a database that Prisma has never seen as well."""
    assert any("nothing to drift from" in note for note in deploy(site, "--drift")["notes"])
    site.add("20260402000000_more", 'ALTER TABLE "User" ADD COLUMN "more" TEXT;')
    assert any("no drift" in note for note in deploy(site, "--drift")["notes"])
    site.add(AFTER, BADGE)
    site.sql('alter table "Wallet" add column "by hand" text')
    refused = deploy(site, "--drift", code=23)
    assert "by hand" in refused["message"]
    assert "invoke drift --sql" in refused["hint"]
    assert len(site.listed()) == 2
    assert any("drift was not looked for" in note for note in deploy(site)["notes"])


# --- the variable that the project names ------------------------------------------------------------------------------

NAMING = """datasource db {
  provider  = "postgresql"
  url       = env("POSTGRES_PRISMA_URL")
  directUrl = env("POSTGRES_URL_NON_POOLING")
}
"""
ELSEWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


def test_the_variable_that_the_schema_names(site: Site) -> None:
    """The direct one first, from the .env beside the schema; and it is said."""
    assert site.info is not None
    (site.project / "schema.prisma").write_text(NAMING)
    (site.project / ".env").write_text(f'POSTGRES_PRISMA_URL="{ELSEWHERE}"\nPOSTGRES_URL_NON_POOLING="{to_url(site.info)}"\n')
    bare = Site(site.folder, None)
    done = deploy(bare)
    assert done["applied"] == [INIT, PROFILE, WALLET]
    assert "connected by POSTGRES_URL_NON_POOLING in " in " ".join(done["notes"])
    assert bare.listed()[0].alias == site.info.dbname
    assert bare.run("rollback", "--migration", "latest", "--yes").code == 0
    assert site.rows(WALLET) == 0


def test_usual_names_and_pg_variables_are_stronger(site: Site) -> None:
    assert site.info is not None
    (site.project / "schema.prisma").write_text(NAMING)
    bare = Site(site.folder, None, {"POSTGRES_PRISMA_URL": ELSEWHERE})
    words = site.info.words()
    assert bare.run("status").code == 4
    named = bare.run("status", "--json", DATABASE_URL=to_url(site.info))
    assert named.code == 23, named.err
    there = {"PGHOST": words["host"], "PGPORT": words["port"], "PGUSER": words["user"], "PGDATABASE": words["dbname"]}
    assert bare.run("status", "--json", **there).code == 23
    assert bare.run("status", "--json", POSTGRES_PRISMA_URL="prisma://accelerate.example.org/?api_key=x").code == 3
