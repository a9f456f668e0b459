"""Shadow databases: where they are made, what is never touched, and that they are gone afterwards in any case."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.reverse import shadows
from tests.desk import Desk, wait_until
from tests.integration.reverse.projects import Project

AGE = ("reverse", "--migration", "age", "--json")


@pytest.fixture
def spare(any_server: ScratchServer) -> Iterator[ConnInfo]:
    """Another empty database on the same server."""
    name = f"test_spare_{secrets.token_hex(4)}"
    with connect(any_server.info) as admin:
        admin.execute(f"create database {name} template template0".encode())
    yield any_server.info.with_dbname(name)
    with connect(any_server.info) as admin:
        admin.execute(f"drop database {name} with (force)".encode())


@pytest.fixture
def plain_role(project: Project) -> Iterator[str]:
    """A role that owns the project's database and what is in it, and may create none."""
    role, desk = f"test_plain_{secrets.token_hex(4)}", project.desk
    assert desk.info is not None
    desk.sql(
        f"create role {role} login", f'alter table "User" owner to {role}', f"alter table _prisma_migrations owner to {role}",
        f'alter database "{desk.info.dbname}" owner to {role}',
    )  # fmt: skip
    yield role
    with connect(desk.info, dbname="postgres") as admin:
        admin.execute(f'drop database "{desk.info.dbname}" with (force)'.encode())
        admin.execute(f"drop role {role}".encode())


def as_role(project: Project, role: str) -> Desk:
    desk = project.desk
    assert desk.info is not None
    return replace(desk, info=replace(desk.info, user=role))


def comment(info: ConnInfo) -> str | None:
    with connect(info) as connection:
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
        ).fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


# --- where ----------------------------------------------------------------------------------------------------------


def test_beside_the_live_one_with_its_owners_and_privileges(project: Project) -> None:
    """What a dropped table's privileges were is part of its reverse."""
    role = f"test_reader_{secrets.token_hex(4)}"
    project.desk.sql(f"create role {role}", f'grant select on "User" to {role}')
    try:
        project.add("20260104000000_gone", 'drop table "User";')
        run = project.desk.run("reverse", "--migration", "gone", "--from", "live", "--json")
        assert (run.code, run.json["status"]) == (0, "proved"), run.err
        assert run.json["state"].endswith("on a shadow beside it")
        assert f'"{role}"' in (project.folder / "20260104000000_gone" / "down.sql").read_text()
    finally:
        project.desk.sql(f'revoke all on "User" from {role}', f"drop role {role}")


def test_without_the_right_to_create_one_on_a_server_of_our_own(project: Project, plain_role: str) -> None:
    run = as_role(project, plain_role).run(*AGE)
    assert (run.code, run.json["status"]) == (0, "proved"), run.err
    assert run.json["state"].endswith("on a shadow on a server of our own")


def test_with_neither_the_three_ways_are_said(project: Project, plain_role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naap_ops.postgres.installed.installations", dict)
    run = as_role(project, plain_role).run(*AGE)
    assert run.code == 7
    for way in ("CREATEDB", "SHADOW_DATABASE_URL", "Install postgresql-"):
        assert way in run.err
    assert as_role(project, plain_role).run(*AGE, "--shadow-server", "beside").code == 7


def test_at_a_url(project: Project, spare: ConnInfo) -> None:
    project.desk.extra["SHADOW_DATABASE_URL"] = to_url(spare)
    for _ in range(2):
        run = project.desk.run(*AGE)
        assert (run.code, run.json["status"]) == (0, "proved"), run.err
        assert run.json["state"].endswith("on a shadow at shadow_database_url")
    assert comment(spare) is None
    with connect(spare) as connection:
        assert connection.execute("select count(*) from pg_class where relnamespace = 'public'::regnamespace").fetchone() == (
            0,
        )
        assert connection.execute("select nspowner::regrole::text from pg_namespace where nspname = 'public'").fetchone() == (
            "pg_database_owner",
        )
    table = project.desk.run("config", "--json").json["settings"]
    assert table["shadow_database_url"]["source"] == "environment SHADOW_DATABASE_URL"


# --- what is never touched ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["same", "other host"])
def test_the_live_database_is_no_shadow(project: Project, spelling: str) -> None:
    assert project.desk.info is not None
    url = to_url(project.desk.info)
    if spelling == "other host":
        url = url.replace(f"host={_quoted(project.desk.info.host)}", f"host={_quoted(str(project.desk.info.host) + '/.')}")
        assert url != to_url(project.desk.info)
    project.desk.extra["SHADOW_DATABASE_URL"] = url
    run = project.desk.run(*AGE)
    assert run.code == 3
    assert "names the live database" in run.err
    assert project.desk.ask('select count(*) from "User"') == 0


def _quoted(text: str | None) -> str:
    from urllib.parse import quote

    return quote(text or "", safe="")


def test_a_database_that_holds_somebodys_is_not_emptied(project: Project, spare: ConnInfo) -> None:
    with connect(spare) as connection:
        connection.execute("create table precious as select 1 as i")
    project.desk.extra["SHADOW_DATABASE_URL"] = to_url(spare)
    run = project.desk.run(*AGE)
    assert run.code == 3
    assert "relation precious" in run.err
    with connect(spare) as connection:
        assert connection.execute("select i from precious").fetchone() == (1,)


def test_one_run_at_a_time_in_a_given_database(project: Project, spare: ConnInfo) -> None:
    project.desk.extra["SHADOW_DATABASE_URL"] = to_url(spare)
    with shadows.given(spare, None):
        assert project.desk.run(*AGE).code == 15


def test_clearing_leaves_nothing(spare: ConnInfo) -> None:
    with shadows.given(spare, None) as info, connect(info) as connection:
        connection.execute(
            "create schema s; create table s.t (i int); create view v as select * from s.t; create type e as enum ('a');"
            "create function f() returns event_trigger language plpgsql as 'begin end';"
            "create event trigger et on ddl_command_start execute function f(); create publication p for all tables;"
            "drop schema if exists nosuch"
        )
    with connect(spare) as connection:
        assert connection.execute(shadows._CONTENTS.encode()).fetchall() == []


# --- gone afterwards ------------------------------------------------------------------------------------------------


def test_interrupted_it_is_dropped(project: Project) -> None:
    project.add("20260104000000_slow", "select pg_sleep(600);")
    child = project.desk.spawn("reverse", "--migration", "slow")
    wait_until(
        lambda: project.desk.ask("select count(*) from pg_stat_activity where query like '%pg_sleep(600)' and state = 'active'")
    )
    assert len(project.shadows()) == 1
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert project.shadows() == []


def test_killed_it_is_swept_by_a_later_run(project: Project, any_server: ScratchServer) -> None:
    project.add("20260104000000_slow", "select pg_sleep(600);")
    child = project.desk.spawn("reverse", "--migration", "slow")
    busy = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)' and state = 'active'"
    wait_until(lambda: project.desk.ask(busy))
    (name,) = project.shadows()
    child.kill()
    child.communicate(timeout=60)
    project.desk.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)'")
    wait_until(lambda: not project.desk.ask(f"select count(*) from pg_stat_activity where datname = '{name}'"))
    assert project.desk.run(*AGE).code == 0
    assert project.shadows() == [name], "within the hour it could be another's"
    age(any_server.info, name)
    assert project.desk.run(*AGE).code == 0
    assert project.shadows() == []


def age(info: ConnInfo, name: str, **facts: object) -> None:
    """Make a shadow's mark two hours old, with another maker perhaps."""
    with connect(info) as connection:
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", [name]
        ).fetchone()
        assert row is not None
        made = json.loads(row[0].removeprefix(shadows._MARK)) | {"at": "2026-01-01T00:00:00.000Z"} | facts
        text = shadows._MARK + json.dumps(made)
        connection.execute(sql.SQL("comment on database {} is {}").format(sql.Identifier(name), text))


def test_what_may_be_in_use_is_not_swept(any_server: ScratchServer) -> None:
    with shadows.beside(any_server.info) as info, connect(any_server.info) as admin:
        name = str(info.dbname)
        age(any_server.info, name)
        assert name not in shadows.sweep(admin), "its maker lives"
        age(any_server.info, name, host="elsewhere", pid=1)
        with connect(info):
            assert name not in shadows.sweep(admin), "somebody is in it"
        wait_until(lambda: _alone(admin, name))
        assert name in shadows.sweep(admin)


def _alone(admin: psycopg.Connection[tuple[object, ...]], name: str) -> bool:
    return admin.execute("select count(*) from pg_stat_activity where datname = %s", [name]).fetchone() == (0,)


def test_a_database_that_only_looks_like_ours_is_not_swept(any_server: ScratchServer) -> None:
    names = ["naap_shadow_mine", "naap_shadow_0123456789ab"]
    with connect(any_server.info) as admin:
        for name in names:
            admin.execute(f"create database {name}".encode())
        admin.execute("comment on database naap_shadow_0123456789ab is 'mine'")
        try:
            assert not set(names) & set(shadows.sweep(admin))
        finally:
            for name in names:
                admin.execute(f"drop database {name}".encode())
