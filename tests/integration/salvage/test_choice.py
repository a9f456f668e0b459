"""Which kept database, which tables, by which rights; what else the backup is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from naap_ops.errors import (
    BackupNotFound,
    Busy,
    PrivilegeMissing,
    Refused,
    UsageError,
)
from naap_ops.restore.locking import procedure_lock
from tests import restored
from tests.salvaged import Ground

TWO = """
create table t (id int primary key, v text); insert into t select i, 'base' from generate_series(1, 5) i;
create schema s; create table s.u (id int primary key, v text); insert into s.u values (1, 'base');
"""
WRITES = "update t set v = 'old' where id = 1; insert into s.u values (2, 'old')"
BOTH = "update t set v = 'old' where id = 1; delete from t where id = 2; update t set v = 'old' where id = 3"
LIVE = "update t set v = 'live' where id in (1, 2); delete from t where id = 3; insert into t values (9, 'live')"


def refused(ground: Ground, code: int, *words: str) -> str:
    answer = ground.salvage(*words)
    assert answer.code == code, answer.err
    return answer.err


def test_tables_and_schemas(any_ground: Ground) -> None:
    any_ground.laid(TWO, WRITES)
    assert any_ground.done("--schema", "s", "--dry-run") == {"s.u": (1, 0, 0, 0)}
    assert any_ground.done("--tables", "t,u", "--dry-run") == {"public.t": (0, 1, 0, 0), "s.u": (1, 0, 0, 0)}
    assert "no table 'x'" in refused(any_ground, UsageError.exit_code, "--tables", "x")
    assert "schema x" in refused(any_ground, UsageError.exit_code, "--schema", "x")
    refused(any_ground, UsageError.exit_code, "--all", "--tables", "t")
    refused(any_ground, UsageError.exit_code, "--conflicts", "mine")
    assert any_ground.run("salvage", "--yes").code == UsageError.exit_code
    assert any_ground.done("--tables", "public.t") == {"public.t": (0, 1, 0, 0)}
    assert any_ground.ask("select count(*) from s.u") == 1
    told = any_ground.run("salvage", "--since-backup")  # nobody can be asked
    assert told.code == Refused.exit_code
    assert any_ground.ask("select count(*) from s.u") == 1


def test_which_kept_database(any_ground: Ground) -> None:
    assert "nothing is kept" in refused(any_ground, Refused.exit_code)
    any_ground.laid(TWO, WRITES)
    first = any_ground.kept
    any_ground.sql("insert into t values (6, 'between')")
    any_ground.kept = any_ground.run("restore", "--swap", "--yes", "--json").json["previous"]
    assert any_ground.done() == {"public.t": (1, 0, 0, 0)}
    assert any_ground.done("--kept", first) == {"public.t": (0, 1, 0, 0), "s.u": (1, 0, 0, 0)}
    assert any_ground.rows("select id, v from t where id in (1, 6) order by id") == [(1, "old"), (6, "between")]
    assert "'nobody'" in refused(any_ground, Refused.exit_code, "--kept", "nobody")
    assert any_ground.run("restore.undo", "--yes").code == 0
    undone = restored.ours(any_ground.info, "undone")[0] if any_ground.info else ""
    assert "undone" in refused(any_ground, Refused.exit_code, "--kept", undone)


def test_without_its_backup(any_ground: Ground) -> None:
    any_ground.laid(TWO, WRITES)
    any_ground.repo.rename(any_ground.folder / "elsewhere")
    refused(any_ground, BackupNotFound.exit_code)


@pytest.mark.parametrize("settings", ["format = 'directory'", "format = 'custom'", "format = 'plain'"])
def test_the_backup_says_what_was_in_it(any_ground: Ground, settings: str) -> None:
    """Whether a key is new or was there is only open where both sides have changed or deleted rows."""
    any_ground.settings(f"[backup]\n{settings}\n")
    any_ground.laid(TWO, BOTH, LIVE)
    found = any_ground.salvage().json["tables"]["public.t"]
    reasons = {each["reason"].split(":")[0]: each["keys"] for each in found["reasons"]}
    if "plain" in settings:
        assert reasons == {"not in the live": ["3"], "inserted in both": ["1"]} | {}
        assert any("plain script" in note for note in found["notes"])
    else:
        assert reasons == {
            "changed in both": ["1"],
            "deleted in the old, changed in the live": ["2"],
            "changed in the old, deleted in the live": ["3"],
        }
    assert any_ground.rows("select id, v from t order by id") == [
        (1, "live"),
        (2, "live"),
        (4, "base"),
        (5, "base"),
        (9, "live"),
    ]
    theirs = {1: "old", 2: "live", 3: "old", 4: "base", 5: "base", 9: "live"}
    if "plain" not in settings:
        assert any_ground.done("--conflicts", "theirs") == {"public.t": (1, 1, 0, 1)}
        assert dict(any_ground.rows("select id, v from t")) == theirs


def test_a_table_made_anew_or_written_anew_is_compared(any_ground: Ground) -> None:
    old = """
        create table copy as select * from t; alter table copy add primary key (id); drop table t; alter table copy rename to t;
        update t set v = 'old' where id = 1; delete from t where id = 2; insert into t values (7, 'old'); vacuum full s.u"""
    any_ground.laid(TWO, "")
    for statement in old.split(";"):
        any_ground.sql(statement, dbname=any_ground.kept)
    assert any_ground.done() == {"public.t": (1, 1, 1, 0)}
    any_ground.same(["t", "s.u"])


def test_rows_that_the_backup_left_out(any_ground: Ground) -> None:
    any_ground.sql(TWO)
    assert any_ground.run("backup", "--exclude-table-data", "public.t").code == 0
    answer = any_ground.run("restore", "--swap", "--partial", "--yes", "--json")
    any_ground.kept = answer.json["previous"]
    any_ground.sql("insert into t values (1, 'live')")
    assert any_ground.done() == {"public.t": (4, 0, 0, 1)}


def test_one_at_a_time(any_ground: Ground) -> None:
    any_ground.laid(TWO, WRITES)
    assert any_ground.info is not None
    with procedure_lock(any_ground.info, any_ground.info.dbname or "", "this"):
        refused(any_ground, Busy.exit_code)


# --- rights -----------------------------------------------------------------------------------------------------------


RIGHTS = f"""
create table plain (id int primary key, v text); insert into plain values (1, 'base');
create table lent (like plain including all); create table hidden (like plain including all);
create table firing (like plain including all);
create function fire() returns trigger language plpgsql as $$ begin new.v := new.v || '!'; return new; end $$;
create trigger fire before insert or update on plain for each row execute function fire();
create trigger fire before insert or update on firing for each row execute function fire();
alter table hidden enable row level security; create policy half on hidden using (id > 10);
alter table plain owner to "{restored.OWNER}"; grant all on all tables in schema public to "{restored.OWNER}";
"""
RIGHTS_WRITES = """
insert into plain values (2, 'x'); insert into hidden values (2, 'x'); insert into firing values (2, 'x');
create table naap (id int)"""


@pytest.mark.pg(15, 16, 18)
def test_somebody_who_is_no_superuser(ground: Ground) -> None:
    assert ground.info is not None
    restored.make_roles(ground.info)
    ground.sql(f'alter role "{restored.OWNER}" login')
    ground.laid(RIGHTS, RIGHTS_WRITES)
    mine = Ground(ground.folder, replace(ground.info, user=restored.OWNER))
    found = mine.salvage().json["tables"]
    assert [found["public.plain"][key] for key in ("inserted", "left")] == [1, 0]
    assert "row security" in found["public.hidden"]["reasons"][0]["reason"]
    assert "triggers" in found["public.firing"]["reasons"][0]["reason"]
    assert ground.texts("plain") == ["(1,base)", "(2,x!)"]
    assert ground.texts("hidden") == []
    assert "could not be counted" in found["public.naap"]["reasons"][0]["reason"]
    ground.sql(f'revoke delete on lent from "{restored.OWNER}"')
    assert "salvage public.lent: it lacks DELETE on it in the live" in refused(mine, PrivilegeMissing.exit_code)
    ground.sql(f'grant all on lent to "{restored.OWNER}"; revoke temporary on database {ground.quoted} from public')
    assert "temporary" in refused(mine, PrivilegeMissing.exit_code)
