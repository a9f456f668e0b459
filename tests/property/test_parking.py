"""Forward, writes, back, writes, forward again: everything that was written into what the migration had made is there again, or
is named as what could not come back and is still parked."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from naap_ops.reverse.document import segments
from naap_ops.reverse.images import parked, parking, store
from naap_ops.reverse.images.unparking import Back, bring_back
from naap_ops.reverse.render import quoted
from tests.imaging import MIGRATION, Trip

pytestmark = pytest.mark.also(15, 18)

BEFORE = """
create type kind as enum ('old', 'new');
create table p (id int primary key, n int, s text not null, k kind default 'old', g int generated always as (id * 2) stored);
create table c (id int primary key, p int references p on delete cascade, n numeric(8,2), s varchar(20));
insert into p select i, i % 4, 'é' || i, case when i % 2 = 0 then 'new' else 'old' end::kind from generate_series(1, 8) i;
insert into c select i, 1 + i % 8, i * 1.25, 'c' || i from generate_series(1, 12) i;
"""
MIGRATIONS = (
    "alter table p add a int", "alter table p add b text not null default 'x'", "alter table p add k2 kind default 'new'",
    "alter table p add at timestamptz not null default now()", "alter table p add u uuid default gen_random_uuid()",
    "alter table p add f float8 default 'NaN'", "alter table p add j json default '{}'",
    "alter table p add r int[] default '{}'",
    "alter table p add up int; alter table p add foreign key (up) references p", "alter table p add sn serial",
    "alter table c add q int references p on delete set null", "alter table c add w numeric generated always as (n * 2) stored",
    "alter table c add i int; update c set i = n", "alter table p alter g drop expression",
    "alter table c add z varchar(3); alter table c rename z to y", "alter table p rename n to m",
    "create type mood as enum ('a', 'b');"
    " create table e (id int primary key, p int not null references p, m mood, o int references e)",
    "create table f (id int generated always as identity primary key, t text)", "create table l (x text, y numeric)",
    "create table h (a int, b int unique, primary key (a)); insert into h select id, id from p",
    "create table v (a int primary key, b int); create table w (a int primary key, b int references v);"
    " alter table v add foreign key (b) references w",
    "create table o (id int, part int, primary key (id, part)) partition by list (part);"
    " create table o1 partition of o for values in (1)",
)  # fmt: skip
WRITES = (
    "update p set a = id where id > 4", "update p set a = null, b = 'y' where id < 3", "update p set b = '' where id = 5",
    "update p set k2 = 'old' where id = 1", "update p set k2 = null where id = 2", "update p set at = 'epoch' where id = 3",
    "update p set f = 1, j = '{\"a\": 1}', r = '{1,null}' where id = 4", "update p set f = '-infinity'",
    "update p set u = null where id = 6",
    "update p set up = id - 1 where id > 1", "update c set q = p where id > 3", "update c set i = null where id = 2",
    "update c set i = 77 where id = 5", "update p set g = 5 where id = 1", "update c set y = 'abc' where id = 1",
    "update p set sn = 90 + id",
    "insert into e select i, i, 'a', nullif(i - 1, 0) from generate_series(1, 8) i",
    "insert into f (t) select i from generate_series(1, 3) i",
    "insert into l values ('x', 1), ('x', 1), (null, 'NaN')", "insert into h values (100, 100)",
    "update h set b = 200 where a = 1",
    "insert into v values (1, null), (2, null); insert into w values (1, 1), (2, 2); update v set b = a",
    "insert into o values (1, 1), (2, 1)",
    "insert into p (id, s) values (50, 'since')", "delete from p where id = 8", "delete from f where id = 2",
)  # fmt: skip
WRITTEN = {50}  # ids of the rows that WRITES put into p
BETWEEN = (
    "insert into p (id, s) values (60, 'between')", "update p set s = 'changed' where id = 1", "delete from c where id = 3",
    "delete from p where id = 3", "insert into c values (99, 1, 1, 's')",
)  # fmt: skip


@dataclass
class Journey:
    trip: Trip

    def there(self) -> dict[str, Counter[str]]:
        return {table: Counter(rows) for table, rows in self.trip.contents().items()}

    def tried(self, texts: list[str]) -> None:
        """Each that can be done in the state that there is."""
        for text in texts:
            try:
                with self.trip.live.transaction():
                    self.trip.run(self.trip.live, text)
            except psycopg.Error:
                continue

    def back(self, script: str) -> None:
        made = self.trip.made(script)
        assert made.status == "proved", made.reason
        live = self.trip.live
        store.prepare(live)
        with live.transaction():
            parking.park(live, made.parks, migration=MIGRATION, schema="public", attempt="", lasting=timedelta(days=1))
            for part in segments(made.text):
                live.execute(part.sql.encode())

    def again(self, script: str) -> Back:
        live = self.trip.live
        with live.transaction():
            self.trip.run(live, script)
            live.execute("set constraints all immediate")
            return bring_back(live, MIGRATION, "public", fresh=True)


def start(base: Trip, scripts: list[str]) -> tuple[Journey, str]:
    base.afresh(BEFORE)
    return Journey(base), ";\n".join(scripts)


def keyed(base: Trip, table: str) -> dict[Any, dict[str, Any]]:
    rows = base.rows(f"select to_jsonb(whole) from {quoted(table)} whole")
    return {row.get("id", row.get("a")): row for row in rows}


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    scripts=st.lists(st.sampled_from(MIGRATIONS), min_size=1, max_size=5, unique=True),
    since=st.lists(st.sampled_from(WRITES), max_size=12, unique=True),
)
def test_there_and_back_and_there_again(base: Trip, scripts: list[str], since: list[str]) -> None:
    """Nothing is written in between: all is as it was, to the last value, and nothing stays parked. Rows that the migration
    makes out of those that are there now, also of those written since it ran, are its own."""
    journey, script = start(base, scripts)
    base.run(base.live, script)
    journey.tried(since)
    was = journey.there()
    journey.back(script)
    back = journey.again(script)
    assert back.left == []
    now = journey.there()
    made = now.get("h", Counter()) - was.get("h", Counter())
    assert {json.loads(row)["a"] for row in made} <= WRITTEN
    assert now | {"h": now["h"] - made} == was if made else now == was
    assert parked.found(base.live) == ()


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    scripts=st.lists(st.sampled_from(MIGRATIONS), min_size=1, max_size=5, unique=True),
    since=st.lists(st.sampled_from(WRITES), max_size=12, unique=True),
    between=st.lists(st.sampled_from(BETWEEN), min_size=1, max_size=3, unique=True),
)
def test_with_writes_in_between(base: Trip, scripts: list[str], since: list[str], between: list[str]) -> None:
    """What is written in between is there, and of what was written before each row is there or still parked."""
    journey, script = start(base, scripts)
    base.run(base.live, script)
    journey.tried(since)
    was = {table: keyed(base, table) for table in ("p", "c", "e", "f", "h", "v", "w") if table in base.contents()}
    journey.back(script)
    journey.tried(between)
    meanwhile = {table: keyed(base, table) for table in "pc"}
    back = journey.again(script)
    event(f"left: {bool(back.left)}")
    left = {(each["table"].removeprefix("public."), each["key"]) for each in back.left}
    assert back.leaving == len(back.left) == sum(each.rows for each in parked.found(base.live))
    for table, rows in was.items():
        now = keyed(base, table)
        for key, row in rows.items():
            if table in "pc" and key not in meanwhile[table]:
                continue  # deleted in between
            if (table, str(key)) in left:
                continue
            expected = row | {name: meanwhile[table][key][name] for name in ("s",) if table in "pc"}
            assert now[key] == expected, (table, key)
    assert {table: rows.keys() for table, rows in meanwhile.items()} == {table: keyed(base, table).keys() for table in "pc"}
