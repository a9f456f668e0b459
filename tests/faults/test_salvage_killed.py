"""A salvage killed outright, anywhere: nothing of it is there, and the next one does all of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import salvaged
from tests.desk import wait_until
from tests.salvaged import WORDS, Ground

pytestmark = pytest.mark.long

# Dies before or behind a function of the salvage, once that has been called so many times.
DYING = """
import importlib, os, signal, sys
place, moment, times = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
module, *names = place.split(":")[0], *place.split(":")[1].split(".")
owner = importlib.import_module(f"naap_ops.salvage.{module}")
for name in names[:-1]:
    owner = getattr(owner, name)
original, left = getattr(owner, names[-1]), [times]
def dying(*words, **named):
    left[0] -= 1
    if not left[0] and moment == "before":
        os.killpg(0, signal.SIGKILL)
    result = original(*words, **named)
    if not left[0]:
        os.killpg(0, signal.SIGKILL)
    return result
setattr(owner, names[-1], dying)
from naap_ops.cli import main
main(["naap-ops", *sys.argv[1:]])
"""
PLACES = [
    ("staging:stage", "before", 1),
    ("staging:stage", "after", 2),
    ("deciding:Judge.decide", "after", 2),
    ("base:Base.read", "after", 1),
    ("holding:Court.settle", "after", 1),
    ("sequences:raise_them", "after", 1),
    ("applying:Hand._run", "after", 1),
    ("applying:Hand._run", "after", 2),
    ("applying:Hand._run", "after", 3),
    ("running:Work._audit", "after", 1),
]
BASE = """
create table parent (id serial primary key, v text, self int references parent);
create table child (id serial primary key, parent int references parent on delete restrict);
insert into parent (v) select 'base' from generate_series(1, 50); insert into child (parent) select id from parent;
create function fire() returns trigger language plpgsql as $$ begin new.v := new.v || '!'; return new; end $$;
create trigger fire before insert or update on parent for each row execute function fire();
"""
OLD = """
insert into parent (v, self) select 'old', 1 from generate_series(1, 50); insert into child (parent) select id from parent;
update parent set v = 'old' where id < 20; delete from child where parent = 30; delete from parent where id = 30;
"""
LIVE = "update parent set v = 'live' where id = 1; delete from child where id in (2, 30)"


@pytest.fixture
def ground(any_server: ScratchServer, tmp_path: Path) -> Iterator[Ground]:
    with salvaged.ground(any_server, tmp_path) as ground:
        yield ground.laid(BASE, OLD, LIVE)


def alone(ground: Ground) -> bool:
    query = "select count(*) from pg_stat_activity where application_name like 'naap_ops%' and pid <> pg_backend_pid()"
    return bool(ground.ask(query, "postgres") == 0)


def test_killed_anywhere(ground: Ground) -> None:
    before = ground.texts("parent"), ground.texts("child")
    triggers = ground.rows("select tgname, tgenabled from pg_trigger where not tgisinternal")
    for place, moment, times in PLACES:
        run = ground.program("-c", DYING, place, moment, str(times), *WORDS, argv0=(sys.executable,))
        assert run.code == -signal.SIGKILL, (place, run.err)
        wait_until(lambda: alone(ground))
        assert (ground.texts("parent"), ground.texts("child")) == before, place
        assert ground.rows("select tgname, tgenabled from pg_trigger where not tgisinternal") == triggers
        assert ground.ask("select count(*) from pg_class where relname like 'salvage%'") == 0
    found = ground.done()
    assert found["public.parent"] == (50, 18, 1, 1)
    assert found["public.child"][:3] == (100 - 1, 0, 0)
    assert ground.ask("select count(*) from parent where id > 50 and v = 'old!'") == 50
    assert ground.ask("select count(*) from naap_ops.runs where what = 'salvage'") == 1
    assert not any(sum(each[:3]) for each in ground.done().values())


def test_killed_behind_the_commit(ground: Ground) -> None:
    run = ground.program("-c", DYING, "running:Work.carry_out", "after", "1", *WORDS, argv0=(sys.executable,))
    assert run.code == -signal.SIGKILL, run.err
    wait_until(lambda: alone(ground))
    assert ground.ask("select count(*) from parent where v = 'old!'") == 50 + 18
    assert not any(sum(each[:3]) for each in ground.done().values())
