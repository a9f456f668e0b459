"""A database of every kind of object is backed up, damaged and brought back: what was there is there again, on every major."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.restore import marks
from tests import restored
from tests.conftest import Servers
from tests.desk import Desk

DAMAGE = (
    'alter table public."User" drop column doc cascade',
    "delete from public.event",
    'drop table "DATA".t cascade',
    "select lo_unlink(oid) from pg_largeobject_metadata",
    "drop schema tenant_acme cascade",
    "select setval('public.loose', 1000)",
    "drop policy p on public.secret",
)

QUOTED = '"' + restored.NAME.replace('"', '""') + '"'

# Set after the backup was taken: what comes along is the live database's.
OUTSIDE = (
    f'alter database {QUOTED} owner to "{restored.OWNER}"',
    f"revoke all on database {QUOTED} from public",
    f'grant connect, temporary on database {QUOTED} to "{restored.READER}" with grant option',
    f"alter database {QUOTED} connection limit 37",
    f"alter database {QUOTED} set search_path to 'public', 'DA,\"TA', tenant_acme",
    f"alter database {QUOTED} set work_mem to '5MB'",
    f"""alter role "{restored.OWNER}" in database {QUOTED} set application_name to 'it''s "50%"'""",
    f"comment on database {QUOTED} is 'live ü, \"quoted\", it''s'",
)


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_swap_brings_everything_back(live: Desk, format_: str) -> None:
    assert live.info is not None
    restored.rich(live.info)
    before = restored.content(live.info)
    taken = live.backup(backup__format=format_)
    live.sql(*OUTSIDE, dbname="postgres")
    outside = restored.props(live.info)
    live.sql(*DAMAGE)
    damaged = restored.content(live.info)
    assert damaged != before

    run = live.run("restore", "--swap", "--yes", "--json")

    assert run.code == 0, run.err
    outcome = run.json
    after = restored.content(live.info)
    assert after.tables == before.tables
    assert after.structure == before.structure
    assert after == before
    assert restored.props(live.info) == outside
    assert outcome["tables"] == len(before.tables)
    assert outcome["rows"] == sum(digest.rows for digest in before.tables.values())
    kept = live.info.with_dbname(outcome["previous"])
    assert restored.content(kept) == damaged
    mark = marks.read(restored.props(kept).comment)
    assert mark is not None
    assert (mark.role, mark.of, mark.backup, mark.comment) == ("before", restored.NAME, taken.id, outside.comment)
    assert _analyzed(live) >= {("public", "User"), ("public", "event"), ("public", "summary"), ("tenant_acme", "invoice")}
    assert len([name for name in restored.databases(live.info) if name.startswith("Na")]) == 2


def _analyzed(desk: Desk) -> set[tuple[str, str]]:
    assert desk.info is not None
    with closing(connect(desk.info)) as connection:
        return {(schema, table) for schema, table in connection.execute("select schemaname, tablename from pg_stats")}


def test_into_makes_an_equal_database_and_leaves_the_live_one(live: Desk) -> None:
    assert live.info is not None
    restored.rich(live.info)
    live.sql(*OUTSIDE, dbname="postgres")
    before = restored.content(live.info)
    taken_of = restored.props(live.info)
    live.backup()
    live.sql(*DAMAGE)
    damaged = restored.content(live.info)
    new = 'nëw "one\'s" 50%'

    run = live.run("restore", "--into", new, "--yes", "--json")

    assert run.code == 0, run.err
    assert run.json["previous"] is None
    assert run.json["downtime_seconds"] == 0.0
    assert restored.content(live.info.with_dbname(new)) == before
    assert restored.props(live.info, new) == taken_of  # nothing live to carry over: the manifest's
    assert restored.content(live.info) == damaged
    assert restored.props(live.info) == taken_of


def test_swap_where_the_database_is_gone_takes_everything_from_the_manifest(live: Desk) -> None:
    assert live.info is not None
    restored.rich(live.info)
    live.sql(*OUTSIDE, dbname="postgres")
    before, outside = restored.content(live.info), restored.props(live.info)
    live.backup()
    live.sql(f"drop database {QUOTED}", dbname="postgres")

    run = live.run("restore", "--swap", "--yes", "--json")

    assert run.code == 0, run.err
    assert run.json["previous"] is None
    assert restored.content(live.info) == before
    assert restored.props(live.info) == outside


@pytest.mark.pg(15)
@pytest.mark.parametrize(
    "words", ["encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'", "locale_provider icu icu_locale 'de-u-co-phonebk'"]
)
def test_encoding_and_locale_are_those_of_the_backup(server: ScratchServer, tmp_path: Path, words: str) -> None:
    with restored.swept(server.info):
        desk = Desk(tmp_path, restored.create(server.info, "café", words))
        assert desk.info is not None
        desk.sql("create table t (s text)", "insert into t values ('é'), ('Äpfel'), ('z')")
        before, outside = restored.tables(desk.info), restored.props(desk.info)
        desk.backup()
        assert desk.run("restore", "--swap", "--yes").code == 0
        assert desk.run("restore", "--into", "other", "--yes").code == 0
        assert restored.tables(desk.info) == restored.tables(desk.info, "other") == before
        assert restored.props(desk.info) == restored.props(desk.info, "other") == outside


def test_an_empty_database(any_live: Desk) -> None:
    assert any_live.info is not None
    any_live.backup()
    any_live.sql("create table t ()")
    run = any_live.run("restore", "--swap", "--yes", "--json")
    assert run.code == 0, run.err
    assert (run.json["tables"], run.json["rows"]) == (0, 0)
    assert restored.tables(any_live.info) == {}


def test_a_template_stays_a_template(any_filled: Desk) -> None:
    assert any_filled.info is not None
    any_filled.backup()
    any_filled.sql(f"alter database {QUOTED} is_template true", dbname="postgres")
    assert any_filled.run("restore", "--swap", "--yes").code == 0
    assert restored.props(any_filled.info).is_template


@pytest.fixture
def strange(server: ScratchServer, servers: Servers) -> ScratchServer:
    """Another server of the same major, where none of the roles is."""
    return servers.get(restored.tools(server.info).major, "fresh")


def test_a_new_machine_without_the_roles(live: Desk, strange: ScratchServer) -> None:
    assert live.info is not None
    restored.rich(live.info)
    live.sql(*OUTSIDE, dbname="postgres")
    before = restored.tables(live.info)
    live.backup()
    with restored.swept(strange.info):
        there = replace(live, info=strange.info.with_dbname(restored.NAME))
        assert there.info is not None
        was = restored.databases(strange.info)

        refused = there.run("restore", "--swap", "--yes", "--json")
        assert refused.code == 17
        assert restored.OWNER in refused.json["message"]
        assert restored.READER in refused.json["message"]
        assert "--no-owner --no-privileges" in refused.err
        assert restored.databases(strange.info) == was

        # A policy names its role whatever the flags: that role has to be there.
        policy = there.run("restore", "--swap", "--yes", "--json", "--no-owner", "--no-privileges")
        assert policy.code == 17
        assert restored.READER in policy.json["message"]
        assert "policy" in policy.json["message"]
        assert "--no-owner" not in policy.err
        assert restored.databases(strange.info) == was
        there.sql(f'create role "{restored.READER}"', dbname="postgres")

        run = there.run("restore", "--swap", "--yes", "--json", "--no-owner", "--no-privileges")
        assert run.code == 0, run.err
        assert restored.tables(there.info) == before
        assert restored.props(there.info).owner == "postgres"
        assert restored.props(there.info).acl is None
        # The same with a live database there.
        assert there.run("restore", "--swap", "--yes", "--no-owner", "--no-privileges").code == 0
        assert restored.tables(there.info) == before
