"""`invoke resolve` beside real `migrate resolve`: the same rows, and the same refusals by the same codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests.conftest import _fresh
from tests.integration.prisma.conftest import INIT, PROFILE, TABLE, WALLET, Site
from tests.prisma.engines import Prisma

COLUMNS = (
    "migration_name, checksum, applied_steps_count, logs, finished_at is null, rolled_back_at is null, started_at = finished_at"
)


@pytest.fixture
def other(any_server: ScratchServer) -> Iterator[ConnInfo]:
    """A second database, for the real one."""
    yield from _fresh(any_server)


def rows(info: ConnInfo) -> list[Any]:
    with closing(connect(info)) as connection:
        return connection.execute(f"select {COLUMNS} from _prisma_migrations order by started_at, 6".encode()).fetchall()


def resolve(site: Site, *words: str) -> tuple[int, str | None]:
    """Exit code, and Prisma's code."""
    done = site.run("resolve", *words, "--yes", "--json")
    return done.code, done.json.get("prisma")


# What the books hold before; the words; exit code and Prisma's code.
CASES = {
    "applied, from nothing": ((), ("--applied", INIT), (0, None)),
    "applied, after a failure": (((WALLET, "null", "null"),), ("--applied", WALLET), (0, None)),
    "applied, again": (((WALLET, "now()", "null"),), ("--applied", WALLET), (17, "P3008")),
    "applied, though rolled back after it": (((WALLET, "now()", "now()"),), ("--applied", WALLET), (17, "P3008")),
    "applied, no folder": ((), ("--applied", "20990101_nonesuch"), (11, "P3017")),
    "rolled back, after two failures": (
        ((WALLET, "null", "now()"), (WALLET, "null", "null")),
        ("--rolled-back", WALLET),
        (0, None),
    ),
    "rolled back, though applied": (((WALLET, "now()", "null"),), ("--rolled-back", WALLET), (17, "P3012")),
    "rolled back, never applied": (((WALLET, "now()", "null"),), ("--rolled-back", PROFILE), (11, "P3011")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("generation", ["6", "7.9"])
def test_the_same_as_the_real_one(site: Site, other: ConnInfo, prisma_packages: Any, name: str, generation: str) -> None:
    if generation == "6" and name.startswith("rolled back"):
        pytest.skip("this command of the CLI wants a native engine")
    before, words, (code, prisma_code) = CASES[name]
    for info in (site.info, other):
        desk = Site(site.folder, info)
        for number, (migration, finished, rolled_back) in enumerate(before):
            if not number:
                desk.sql(TABLE.format("public"))
            desk.book(migration, finished_at=finished, rolled_back_at=rolled_back)
    real = Prisma(generation, prisma_packages, site.project, other)
    command = ("resolve", *words) if generation == "6" else (words[0].removeprefix("--"), words[1])
    told = real._run(*command)[1]
    assert resolve(site, *words) == (code, prisma_code), told
    assert ("marked as" in told or '"result"' in told) is (code == 0), told
    assert prisma_code is None or prisma_code in told
    if before or code == 0:
        assert site.info is not None
        assert rows(site.info) == rows(other)


def test_a_baseline(site: Site) -> None:
    """Tables that were there before their migrations: recorded, not run, and the next deploy has nothing to do."""
    site.sql('create table "User" (id int)')
    plan = site.run("resolve", "--baseline", "--dry-run", "--json")
    assert plan.json["migrations"] == [INIT, PROFILE, WALLET]
    assert any("is not touched" in line for line in plan.json["plan"])
    assert site.ask("select to_regclass('_prisma_migrations')") is None
    assert resolve(site, "--baseline") == (0, None)
    assert site.states() == {INIT: "applied", PROFILE: "applied", WALLET: "applied"}
    assert site.ask("select to_regclass('\"Wallet\"')") is None
    assert resolve(site, "--baseline") == (17, None)
    site.book("20260401000000_failed", finished_at="null")
    assert resolve(site, "--baseline") == (23, "P3009")


def test_several_names_or_parts_of_them_all_or_none(site: Site) -> None:
    assert resolve(site, "--applied", "profile", "--applied", "init") == (0, None)
    assert site.states() == {INIT: "applied", PROFILE: "applied", WALLET: "pending"}
    assert resolve(site, "--applied", "wallet", "--applied", "init") == (17, "P3008")
    assert site.states()[WALLET] == "pending"
    assert resolve(site, "--applied", "2026") == (12, None)


def test_tenants_that_need_nothing_are_passed_over(site: Site) -> None:
    for tenant in ("tenant_a", "tenant_b", "tenant_c"):
        site.sql(f"create schema {tenant}", TABLE.format(tenant))
        site.book(INIT, schema=tenant)
    for tenant in ("tenant_a", "tenant_c"):
        site.book(WALLET, schema=tenant, finished_at="null")
    done = site.run("resolve", "--rolled-back", "failed", "--all-tenants", "--yes", "--json")
    assert done.json["schemas"] == {"tenant_a": [WALLET], "tenant_b": [], "tenant_c": [WALLET]}
    assert resolve(site, "--rolled-back", WALLET, "--all-tenants")[0] == 17
    site.sql("create schema tenant_new")
    assert site.run("resolve", "--applied", INIT, "--all-tenants", "--yes", "--json").json["schemas"]["tenant_new"] == [INIT]


def test_nobody_migrates_meanwhile_and_nobody_is_asked(site: Site) -> None:
    assert site.info is not None
    with connect(site.info) as connection:
        connection.execute("select pg_advisory_lock(72707369)")
        done = site.run("resolve", "--baseline", "--yes", "--json", NAAP_OPS_PRISMA__LOCK_TIMEOUT="0.3s")
    assert done.code == 15
    assert site.run("resolve", "--baseline").code == 17  # no terminal to type the name at
    assert site.run("resolve").code == site.run("resolve", "--baseline", "--applied", INIT).code == 2
    assert site.ask("select to_regclass('_prisma_migrations')") is None
