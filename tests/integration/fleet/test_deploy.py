"""`invoke deploy` to tenants: one backup, one proof of each reverse, schema after schema; what is left is gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.desk import wait_until
from tests.integration.fleet.conftest import INITIAL, OPTIONAL, SETTINGS, USER, WORKSPACES, Fleet
from tests.prisma.engines import Prisma

STRICT = "20240501000000_names_not_empty"
NOT_EMPTY = """ALTER TABLE "users" ADD COLUMN "nick" TEXT;
ALTER TABLE "users" ADD CONSTRAINT "name_not_empty" CHECK ("name" <> '');
"""


def deploy(fleet: Fleet, *words: str, code: int = 0) -> dict[str, Any]:
    done = fleet.run("deploy", "--yes", "--json", *words)
    assert done.code == code, done.err
    return done.json


@pytest.fixture
def deployed(fleet: Fleet) -> Fleet:
    """core and its tenants, with everything applied."""
    deploy(fleet)
    deploy(fleet, "--all-tenants")
    return fleet


def test_one_backup_one_proof_then_schema_after_schema(fleet: Fleet) -> None:
    first = deploy(fleet)
    assert (first["schema"], first["applied"]) == ("core", [INITIAL, WORKSPACES])
    done = deploy(fleet, "--all-tenants")
    assert done["applied"] == [INITIAL, WORKSPACES]
    assert [(each["schema"], each["state"]) for each in done["tenants"]] == [
        ("core", "current"), *((each, "applied") for each in fleet.tenants)
    ]  # fmt: skip
    assert [(each["reverse"], each["proved_in"]) for each in done["migrations"]] == [("proved", "tenant_00")] * 2
    assert len(fleet.listed()) == 2
    assert fleet.having(WORKSPACES) == list(fleet.schemas)
    kept = json.loads(Path(done["record"]).read_bytes())
    assert [each["applied"] for each in kept["tenants"]] == [[], *([[INITIAL, WORKSPACES]] * 4)]
    told = Path(done["record"]).with_suffix(".md").read_text(encoding="utf-8")
    assert "tenant_03: applied; 2 migrations applied" in told
    assert deploy(fleet, "--all-tenants")["applied"] == []
    assert len(fleet.listed()) == 2
    assert fleet.run("status", "--all-tenants", "--drift").code == 0


def test_the_plan_names_schemas_and_touches_nothing(deployed: Fleet) -> None:
    deployed.write(SETTINGS)
    shown = deploy(deployed, "--all-tenants", "--dry-run")
    assert shown["tenants"] == {each: [SETTINGS] for each in deployed.schemas}
    assert f"apply {SETTINGS} in {', '.join(deployed.schemas)}" in shown["plan"]
    assert f"reverse of {SETTINGS}: proved in core" in " ".join(shown["plan"])
    assert deployed.having(SETTINGS) == []
    assert len(deployed.listed()) == 2


def test_the_schema_of_the_url_alone_is_said(deployed: Fleet) -> None:
    deployed.write(SETTINGS)
    done = deploy(deployed)
    assert deployed.having(SETTINGS) == ["core"]
    assert any("tenant_00, tenant_01, tenant_02, tenant_03 (--all-tenants)" in note for note in done["notes"])


def test_one_that_fails_neither_stops_nor_hides_the_others(deployed: Fleet) -> None:
    deployed.sql(USER.format("tenant_01"), "update tenant_01.users set name = ''")
    deployed.add(STRICT, NOT_EMPTY)
    told = deploy(deployed, "--all-tenants", code=21)
    assert [each["schema"] for each in told["done"]] == ["core", "tenant_00", "tenant_02", "tenant_03"]
    assert {each["migrations"][0] for each in told["done"]} == {STRICT}
    failed = told["failed"]["tenant_01"]
    assert (failed["migration"], failed["statement"], failed["prisma"]) == (STRICT, 2, "P3018")
    assert f"invoke resolve --rolled-back {STRICT} --tenant 01`" in told["hint"]
    assert f"invoke restore --backup {failed['backup']} --schema tenant_01" in told["hint"]
    assert deployed.having(STRICT) == ["core", "tenant_00", "tenant_02", "tenant_03"]
    assert "tenant_01" not in deployed.with_column("users", "nick")  # one transaction

    # Left out until it is mended; what comes next is not kept from the others by it.
    deployed.write(SETTINGS)
    told = deploy(deployed, "--all-tenants", code=21)
    assert told["failed"]["tenant_01"]["prisma"] == "P3009"
    assert f"invoke resolve --applied {STRICT} --tenant 01" in told["hint"]
    assert deployed.run("resolve", "--applied", SETTINGS, "--tenant", "zero", "--yes").code == 17
    assert deployed.having(SETTINGS) == ["core", "tenant_00", "tenant_02", "tenant_03"]
    backups = len(deployed.listed())
    assert sorted(deploy(deployed, "--all-tenants", code=21)["failed"]) == ["tenant_01"]
    assert len(deployed.listed()) == backups  # nothing was left to do

    deployed.sql("update tenant_01.users set name = 'Ada'")
    assert deployed.run("resolve", "--rolled-back", STRICT, "--tenant", "01", "--yes").code == 0
    done = deploy(deployed, "--all-tenants")
    assert {each["schema"]: each["applied"] for each in done["tenants"] if each["applied"]} == {"tenant_01": [SETTINGS, STRICT]}
    assert deployed.run("status", "--all-tenants").code == 0


def test_the_offer_leads_this_tenant_back(deployed: Fleet) -> None:
    deployed.sql(USER.format("tenant_01"), "update tenant_01.users set name = ''")
    deployed.add(STRICT, NOT_EMPTY)
    failed = deploy(deployed, "--all-tenants", code=21)["failed"]["tenant_01"]
    done = deployed.run("restore", "--backup", failed["backup"], "--schema", "tenant_01", "--yes")
    assert done.code == 0, done.err
    assert deployed.ask("select count(*) from tenant_01._prisma_migrations") == 2
    deployed.sql("update tenant_01.users set name = 'Ada'")
    assert deploy(deployed, "--all-tenants")["applied"] == [STRICT]


def test_one_tenant(deployed: Fleet) -> None:
    deployed.write(SETTINGS)
    done = deploy(deployed, "--tenant", "02")
    assert [(each["schema"], each["applied"]) for each in done["tenants"]] == [("tenant_02", [SETTINGS])]
    assert done["migrations"][0]["proved_in"] == "tenant_02"
    assert deployed.having(SETTINGS) == ["tenant_02"]
    assert deploy(deployed, "--tenant", "02")["applied"] == []


def test_a_mistyped_tenant_is_not_made(deployed: Fleet) -> None:
    assert "tenant_zero" in deploy(deployed, "--tenant", "zero", code=17)["message"]
    assert deployed.ask("select to_regnamespace('tenant_zero')::text") is None
    deploy(deployed, "--tenant", "00", "--all-tenants", code=2)


def test_tenants_that_lag_and_new_ones(deployed: Fleet) -> None:
    """Each reverse is proved once, where most is pending; each tenant gets what it lacks."""
    deployed.write(SETTINGS)
    deploy(deployed, "--tenant", "02")
    deployed.write(OPTIONAL)
    deployed.sql("create schema tenant_new", "create schema tenant_foreign", "create table tenant_foreign.t (i int)")
    told = deploy(deployed, "--all-tenants", code=21)
    assert told["failed"]["tenant_foreign"]["prisma"] == "P3005"
    assert {each["schema"]: each["migrations"] for each in told["done"]} == {
        **{each: [SETTINGS, OPTIONAL] for each in deployed.schemas},
        "tenant_02": [OPTIONAL],
        "tenant_new": [INITIAL, WORKSPACES, SETTINGS, OPTIONAL],
    }
    assert told["hint"].endswith(f"What was done is recorded in {told['record']}")
    record = json.loads(Path(told["record"]).read_bytes())
    assert {each["proved_in"] for each in record["migrations"]} == {"tenant_new"}
    assert record["outcome"] == "failed"
    assert record["tenants"][-1]["state"] == "left_out"
    assert deployed.ask("select count(*) from tenant_foreign.t") == 0


def test_drift_in_any_tenant_is_refused_where_that_is_wanted(deployed: Fleet) -> None:
    deployed.write(SETTINGS)
    deployed.sql('alter table tenant_02.users add column "by hand" int')
    refused = deploy(deployed, "--all-tenants", "--drift", code=23)
    assert "by hand" in refused["message"]
    assert "tenant_02" in refused["message"]
    assert deployed.having(SETTINGS) == []
    deploy(deployed, "--tenant", "02", "--drift", code=23)
    done = deploy(deployed, "--tenant", "03", "--drift")  # in this one there is none
    assert any("no drift" in note for note in done["notes"])
    assert deployed.having(SETTINGS) == ["tenant_03"]


def test_the_configured_command_gets_the_url_of_each(deployed: Fleet) -> None:
    """Its word is not taken for it: each tenant's own books are read."""
    deployed.write(SETTINGS)
    deployed.settings("""[deploy]\ncommand = ["sh", "-c", "echo $DATABASE_URL >> urls; echo $DIRECT_URL >> urls"]\n""")
    told = deploy(deployed, "--all-tenants", code=21)
    assert sorted(told["failed"]) == list(deployed.schemas)
    assert {each["error"] for each in told["failed"].values()} == {"OutOfStep"}
    urls = (deployed.folder / "urls").read_text().split()
    assert [url.partition("schema=")[2] for url in urls] == [each for each in deployed.schemas for _ in (1, 2)]


def test_somebody_who_migrates_meanwhile_is_waited_for_once(deployed: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each tenant again: the lock is the database's."""
    from naap_ops.errors import Busy
    from naap_ops.prisma import applier

    tried = []

    def busy(*_: Any, schema: str, **__: Any) -> Any:
        tried.append(schema)
        raise Busy(what="a Prisma migrate command", holder="another")

    monkeypatch.setattr(applier, "deploy", busy)
    deployed.write(SETTINGS)
    told = deploy(deployed, "--all-tenants", code=21)
    assert tried == ["core"]
    assert [each["error"] for each in told["failed"].values()] == ["Busy", *["Refused"] * 4]


@pytest.mark.long
def test_killed_in_the_middle_the_next_one_goes_on(deployed: Fleet) -> None:
    """The third schema waits for a lock that another holds; what is done by then stays done."""
    from naap_ops.postgres.session import connect

    assert deployed.info is not None
    deployed.write(SETTINGS)
    with connect(deployed.info, application_name="another", autocommit=False) as other:
        other.execute("lock table tenant_01.tenants in share mode")
        child = deployed.spawn("deploy", "--all-tenants", "--yes")
        query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%ADD COLUMN%'"
        wait_until(lambda: deployed.ask(query) == 1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed = (
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%ADD COLUMN%' and pid <> pg_backend_pid()"
        )
        deployed.ask(killed)
        wait_until(lambda: deployed.ask("select count(*) from pg_locks where locktype = 'advisory'") == 0)
    assert deployed.having(SETTINGS) == ["core", "tenant_00"]
    # Its row is begun and not finished: as Prisma would, the next one wants to be told what is so.
    told = deploy(deployed, "--all-tenants", code=21)
    assert sorted(told["failed"]) == ["tenant_01"]
    assert deployed.having(SETTINGS) == ["core", "tenant_00", "tenant_02", "tenant_03"]
    assert deployed.run("resolve", "--rolled-back", SETTINGS, "--all-tenants", "--yes").code == 0
    deploy(deployed, "--all-tenants")
    assert deployed.having(SETTINGS) == list(deployed.schemas)


@pytest.mark.long
def test_by_real_prisma(deployed: Fleet, prisma_packages: Path) -> None:
    """The CLI applies it to each, one tenant fails on its rows, and is content once those are mended."""
    assert deployed.info is not None
    deployed.sql(USER.format("tenant_01"), "update tenant_01.users set name = ''")
    deployed.add(STRICT, NOT_EMPTY)
    script = deployed.folder / "deploy.sh"
    script.write_text(by_url(Prisma("6", prisma_packages, deployed.project, deployed.info)))
    deployed.settings(f'[deploy]\ncommand = ["sh", "{script}"]\n')
    told = deploy(deployed, "--all-tenants", code=21)
    assert {each: error["migration"] for each, error in told["failed"].items()} == {"tenant_01": STRICT}, told["failed"][
        "core"
    ]["message"]
    assert 'check constraint "name_not_empty"' in told["failed"]["tenant_01"]["message"]
    deployed.sql("update tenant_01.users set name = 'Ada'")
    assert deployed.run("resolve", "--rolled-back", STRICT, "--all-tenants", "--yes").code == 0
    assert deploy(deployed, "--all-tenants")["applied"] == [STRICT]
    assert deployed.having(STRICT) == list(deployed.schemas)


def by_url(prisma: Prisma) -> str:
    """A script that runs `migrate deploy` on the schema of DATABASE_URL, as `npx prisma` would."""
    target = json.loads(prisma.environ["NAAP_OPS_TEST_TARGET"])
    target["schema"] = "@"
    given = {key: value for key, value in prisma.environ.items() if key.startswith(("NAAP_OPS_", "PRISMA_", "CHECKPOINT_"))}
    given["NAAP_OPS_TEST_TARGET"] = json.dumps(target)
    lines = [f"export {key}='{value}'" for key, value in given.items()]
    lines.append("schema=${DATABASE_URL##*schema=}")
    lines.append('export NAAP_OPS_TEST_TARGET="$(echo "$NAAP_OPS_TEST_TARGET" | sed "s/@/${schema%%&*}/")"')
    return "\n".join([*lines, "exec " + " ".join(f"'{word}'" for word in prisma.argv("deploy")), ""])
