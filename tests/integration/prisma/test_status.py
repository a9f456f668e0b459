"""`invoke status`: every state that folder and books can be in, which backup comes before, what can be proved back."""

from __future__ import annotations

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect
from naap_ops.prisma import tracking
from naap_ops.prisma.migrations import migrations
from tests.integration.prisma.conftest import INIT, PROFILE, SCRIPTS, TABLE, WALLET, Site


def book(site: Site, name: str, **columns: str) -> None:
    [found] = [each for each in migrations(site.migrations) if each.name == name]
    site.book(name, str(found.sha256), **columns)


def test_every_state(site: Site) -> None:
    site.sql(TABLE.format("public"))
    for name in ("20260102_late", "20260103_back", "20260104_edited", "20260105_failed", "20260106_again"):
        site.add(name, "select 1;\n")
    (site.migrations / "20260107_empty").mkdir()
    for name in (INIT, "20260104_edited", WALLET):
        book(site, name)
    site.book("20260101_gone")
    book(site, "20260103_back", rolled_back_at="now()")
    book(site, "20260105_failed", finished_at="null")
    book(site, "20260106_again", finished_at="null", rolled_back_at="now()")
    book(site, "20260106_again")
    (site.migrations / "20260104_edited" / "migration.sql").write_text("select 2;\n", encoding="utf-8")
    site.add("20260401000000_next", "select 1;\r\n")
    done = site.run("status", "--json")
    assert done.code == 23
    assert {each["name"]: each["state"] for each in done.json["migrations"]} == {
        "20260101_gone": "folder_missing",
        INIT: "applied",
        "20260102_late": "out_of_order",
        "20260103_back": "rolled_back",
        "20260104_edited": "edited",
        "20260105_failed": "failed",
        "20260106_again": "applied",
        "20260107_empty": "script_missing",
        PROFILE: "out_of_order",
        WALLET: "applied",
        "20260401000000_next": "pending",
    }
    assert done.json["drift"] == []
    assert done.json["drift_state"] is None
    assert "drift was not looked for: --drift" in done.json["notes"]


def test_drift_is_looked_for_when_asked(site: Site) -> None:
    site.sql(TABLE.format("public"))
    for name, script in SCRIPTS.items():
        site.sql(script)
        book(site, name)
    done = site.run("status", "--drift", "--json")
    assert (done.code, done.json["drift_state"], done.json["drift"]) == (0, "none", [])
    assert not any("not looked for" in note for note in done.json["notes"])
    site.sql('alter table "Wallet" add column extra int')
    assert site.run("status").code == 0
    done = site.run("status", "--drift", "--json")
    assert (done.code, done.json["in_step"], done.json["drift_state"]) == (23, False, "drift")
    assert [each["name"] for each in done.json["drift"]] == ["public.Wallet.extra"]
    assert "column public.Wallet.extra: extra: integer" in site.run("status", "--drift").out


def test_without_a_tracking_table_all_is_pending(site: Site) -> None:
    done = site.run("status", "--json")
    assert set(site.states().values()) == {"pending"}
    assert any("has no _prisma_migrations" in note for note in done.json["notes"])


def test_backup_before_and_reverse(site: Site) -> None:
    """Each migration's backup is the newest one in whose books it is not."""
    site.sql(TABLE.format("public"))
    [first, second, _] = migrations(site.migrations)
    empty = site.backup()
    book(site, INIT)
    site.backup()
    between = site.backup()
    book(site, PROFILE)
    newest = site.backup()
    (second.path / "down.sql").write_text(f"-- x\n-- naap: down 1 status=proved sha256={second.sha256}\n", encoding="utf-8")
    assert site.info is not None
    done = site.run("status", "--json", "--database", str(site.info.dbname))
    found = {each["name"]: (each["backup"], each["reverse"]) for each in done.json["migrations"]}
    assert found == {INIT: (empty.id, None), PROFILE: (between.id, "proved"), WALLET: (newest.id, None)}
    assert first.name == INIT


def test_tenants(site: Site) -> None:
    for schema in ("tenant_a", "tenant_b"):
        site.sql(f"create schema {schema}", TABLE.format(schema))
    site.book(INIT, str(migrations(site.migrations)[0].sha256), schema="tenant_b")
    done = site.run("status", "--all-tenants", "--json")
    states = {(each["schema"], each["name"]): each["state"] for each in done.json["migrations"]}
    assert (states["tenant_a", INIT], states["tenant_b", INIT]) == ("pending", "applied")
    assert done.json["tables"] == ["tenant_a", "tenant_b"]
    assert any("further tracking tables" in note for note in site.run("status", "--json").json["notes"])


def test_a_repository_that_is_away_is_a_note(site: Site) -> None:
    away = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = site.run("status", "--json", "--repo", "s3://bucket/x", NAAP_OPS_S3__ATTEMPTS="1", AWS_REGION="eu-central-1", **away)
    assert done.code == 23
    assert any("backups are not known" in note for note in done.json["notes"])


@pytest.mark.pg(15, 18)
def test_rows_are_read_alike_on_every_major(database: ConnInfo) -> None:
    with connect(database) as connection:
        connection.execute(TABLE.format("public").encode())
        connection.execute("insert into _prisma_migrations (id, checksum, migration_name) values ('1', 'c', 'x')")
        assert tracking.read(connection, "public").state("x") is tracking.State.FAILED
        tracking.mark_applied(connection, "public", "x", "d")
        books = tracking.read(connection, "public")
        assert books.state("x") is tracking.State.APPLIED
        assert [row.live for row in books.rows] == [False, True]
