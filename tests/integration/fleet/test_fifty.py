"""Fifty tenants, as an operator has them: deployed to, looked at, rolled back, killed in the middle; real Prisma content.

Nothing may cost a proof, a backup or a replay for each tenant: these are counted.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from naap_ops.places import Places
from naap_ops.postgres.session import connect
from naap_ops.reverse.proof import Shadow
from tests import restored
from tests.conftest import Servers
from tests.desk import wait_until
from tests.integration.fleet.conftest import OPTIONAL, SETTINGS, USER, Fleet, make
from tests.prisma.engines import Prisma

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
MADE = "fifty tenants"


@pytest.fixture(scope="module")
def made(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Deployed once, by the program; each test has a copy of it."""
    server = servers.get(16)
    with restored.swept(server.info):
        fleet = make(restored.create(server.info, MADE), tmp_path_factory.mktemp("fifty"), 50)
        for words in (["deploy", "--yes"], ["deploy", "--all-tenants", "--yes"]):
            done = fleet.run(*words)
            assert done.code == 0, done.err
        yield fleet


@pytest.fixture
def fifty(made: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    assert made.info is not None
    with restored.swept(made.info):
        with closing(connect(made.info, dbname="postgres")) as session:
            session.execute(f'create database fifty template "{MADE}"'.encode())
        info = made.info.with_dbname("fifty")
        shutil.copytree(made.project, tmp_path / "prisma")
        yield replace(made, folder=tmp_path, info=info)


def run(fleet: Fleet, *words: str, code: int = 0) -> dict[str, Any]:
    done = fleet.run(*words, "--json", *(["--yes"] if words[0] not in ("status", "drift") else []))
    assert done.code == code, done.err
    return done.json


def content(fleet: Fleet, packages: Path, schemas: list[str]) -> None:
    """Every generation of Prisma has nothing to do there and nothing to say."""
    assert fleet.info is not None
    for generation in ("6", "7.8", "7.9"):
        for schema in schemas:
            prisma = Prisma(generation, packages, fleet.project, replace(fleet.info, schema=schema))
            assert (schema, generation, prisma.status(), prisma.deploy()) == (schema, generation, "clean", [])


def test_deployed_looked_at_rolled_back(fifty: Fleet, prisma_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs, shadows = counted(monkeypatch, Shadow, "prove"), counted(monkeypatch, Places, "shadow")
    fifty.write(SETTINGS)
    done = run(fifty, "deploy", "--all-tenants")
    assert [each["state"] for each in done["tenants"]] == ["applied"] * 51
    assert (len(proofs), len(shadows), len(fifty.listed())) == (1, 1, 1)
    assert fifty.with_column("tenants", "settings") == list(fifty.schemas)

    seen = run(fifty, "status", "--all-tenants", "--drift")
    assert len(shadows) == 2  # one history, one replay
    assert (len(seen["tables"]), len(seen["migrations"]), seen["drift"]) == (51, 153, [])
    assert {each["backup"] for each in seen["migrations"] if each["name"] == SETTINGS} == {done["backup"]}
    content(fifty, prisma_packages, ["core", "tenant_00", "tenant_49"])

    # One of them is not as the migrations make it, and that one is named.
    fifty.sql("alter table tenant_17.tenants alter settings drop not null")
    drifted = run(fifty, "drift", "--all-tenants", code=23)
    assert [each["name"] for each in drifted["drift"]] == ["tenant_17.tenants.settings"]
    fifty.sql("alter table tenant_17.tenants alter settings set not null")

    gone = run(fifty, "rollback", "--migration", "latest", "--all-tenants")
    assert gone["tenants"] == dict.fromkeys(fifty.schemas, "done")
    assert len(proofs) == 1  # the reverse was at hand
    assert fifty.with_column("tenants", "settings") == []
    assert fifty.having(SETTINGS) == []
    assert run(fifty, "status", "--all-tenants", "--drift")["in_step"]
    content(fifty, prisma_packages, ["core", "tenant_00", "tenant_49"])


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[None]:
    """One entry for each time that it is called."""
    calls: list[None] = []
    real = getattr(where, name)

    def counting(*words: Any, **options: Any) -> Any:
        calls.append(None)
        return real(*words, **options)

    monkeypatch.setattr(where, name, counting)
    return calls


def test_one_tenant_then_all_are_untracked(fifty: Fleet, prisma_packages: Path) -> None:
    """One is taken back while the others keep it; then Prisma forgets it everywhere."""
    fifty.write(SETTINGS)
    run(fifty, "deploy", "--all-tenants")
    run(fifty, "rollback", "--migration", SETTINGS, "--tenant", "31")
    assert "tenant_31" not in fifty.with_column("tenants", "settings")
    assert len(fifty.having(SETTINGS)) == 51  # the row keeps the folder, which the others need, from running again
    content(fifty, prisma_packages, ["tenant_31"])
    fifty.sql(*(f"alter table {each}.tenants drop column if exists settings" for each in fifty.schemas))
    done = run(fifty, "untrack", "--migration", SETTINGS, "--all-tenants")
    assert done["rows"] == 51
    assert fifty.having(SETTINGS) == []
    assert not (fifty.migrations / SETTINGS).exists()
    content(fifty, prisma_packages, ["core", "tenant_31"])


def test_rows_of_one_block_its_reverse(fifty: Fleet, prisma_packages: Path) -> None:
    fifty.write(OPTIONAL)
    run(fifty, "deploy", "--all-tenants")
    fifty.sql(USER.format("tenant_23"), "update tenant_23.users set name = null")
    told = run(fifty, "rollback", "--migration", "latest", "--all-tenants", "--strategy", "reverse", code=21)
    assert (list(told["failed"]), len(told["done"])) == (["tenant_23"], 50)
    assert fifty.having(OPTIONAL) == ["tenant_23"]
    fifty.sql("update tenant_23.users set name = ''")
    run(fifty, "rollback", "--resume")
    assert fifty.having(OPTIONAL) == []
    assert run(fifty, "status", "--all-tenants", "--drift")["in_step"]
    content(fifty, prisma_packages, ["core", "tenant_23"])


@pytest.mark.parametrize("ends", ["--resume", "--abort"])
def test_killed_in_the_middle_of_all(fifty: Fleet, prisma_packages: Path, ends: str) -> None:
    """The twentieth tenant's table is held, so that the kill comes there for certain."""
    assert fifty.info is not None
    fifty.write(SETTINGS)
    run(fifty, "deploy", "--all-tenants")
    before = books(fifty)
    with connect(fifty.info, autocommit=False) as other:
        other.execute("lock table tenant_19.tenants in access share mode")
        child = fifty.spawn("rollback", "--migration", SETTINGS, "--all-tenants", "--yes")
        wait_until(lambda: "tenant_18" not in fifty.having(SETTINGS) and child.poll() is None, poll=0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
    half = fifty.having(SETTINGS)
    assert half == list(fifty.schemas[20:])
    wait_until(lambda: fifty.ask("select count(*) from pg_locks where locktype = 'advisory'") == 0)
    run(fifty, "rollback", ends)
    if ends == "--resume":
        assert (fifty.having(SETTINGS), fifty.with_column("tenants", "settings")) == ([], [])
        assert not (fifty.migrations / SETTINGS).exists()
    else:
        assert books(fifty) == before
        assert fifty.with_column("tenants", "settings") == list(fifty.schemas)
        assert (fifty.migrations / SETTINGS / "migration.sql").exists()
    assert run(fifty, "status", "--all-tenants", "--drift")["in_step"]
    content(fifty, prisma_packages, ["core", "tenant_18", "tenant_19", "tenant_49"])


def books(fleet: Fleet) -> str:
    """All rows of all tenants, whole."""
    parts = " union all ".join(f"select '{each}', to_jsonb(t) from {each}._prisma_migrations t" for each in fleet.schemas)
    return str(fleet.ask(f"select jsonb_agg(jsonb_build_array(s, r) order by s, r->>'id') from ({parts}) found(s, r)"))
