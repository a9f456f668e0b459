"""Migrations of every kind that loses rows, with writes between there and back: every value of before returns, every write
since survives or is a conflict that is listed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.imaging import Trip

pytestmark = pytest.mark.also(15, 18)

BEFORE = """
create type kind as enum ('old', 'new');
create table p (id int primary key, n int, s text not null, k kind default 'old', j jsonb);
create table c (id int primary key, p int references p on delete cascade on update cascade, n numeric(8,2), s varchar(20));
insert into p select i, nullif(i % 4, 1), 'é' || i, case when i % 2 = 0 then 'new' else 'old' end::kind, to_jsonb(i)
  from generate_series(1, 8) i;
insert into c select i, 1 + i % 8, i * 1.25, 'c' || i from generate_series(1, 12) i;
"""
MIGRATIONS = (
    "alter table p drop column n", "alter table p drop column s", "alter table p drop column k", "alter table p drop column j",
    "alter table c drop column n", "drop table c", "alter table c rename to d; alter table d rename s to t",
    "update p set n = 7", "update p set n = n + 1 where id > 3", "update p set s = left(s, 1)", "update p set k = 'old'",
    "update c set s = null, n = 0", "delete from p where id > 5", "delete from c where id < 4", "truncate c",
    "truncate p cascade",
    "alter table p alter n type text", "alter table p alter n type boolean using n > 2", "alter table c alter n type int",
    "alter table c alter s type varchar(2) using left(s, 2)", "insert into p (id, s) select id + 100, s from p",
    "alter table p alter n set not null", "update p set n = 0 where n is null", "alter table p add column extra int default 5",
    "alter table c drop constraint c_p_fkey", "create unique index u on p (s)", "alter table p rename column n to m",
    "do $$ begin update c set n = 1; delete from c where id = 2; end $$",
)  # fmt: skip
steps = st.lists(st.sampled_from(MIGRATIONS), min_size=1, max_size=4, unique=True)


@dataclass(frozen=True)
class Write:
    """Somebody writes to row ``id`` of ``table``: new, ``column`` to a value that was not there before, or away."""

    what: str
    table: str
    id: int
    column: str = ""


values = {("p", "n"): "4711", ("p", "s"): "'since'", ("c", "n"): "4711", ("c", "s"): "'s!'"}
writes = st.lists(
    st.one_of(
        st.builds(Write, st.just("insert"), st.sampled_from("pc"), st.integers(1000, 1003)),
        st.builds(Write, st.just("delete"), st.sampled_from("pc"), st.integers(1, 8)),
        *(st.builds(Write, st.just("update"), st.just(table), st.integers(1, 8), st.just(column)) for table, column in values),
    ),
    max_size=6,
)


@dataclass
class Oracle:
    """What has to be there in the end, by table and id; of rows and values that were written since, only these."""

    rows: dict[str, dict[int, dict[str, Any]]]
    loose: set[tuple[str, int]] = field(default_factory=set)

    def written(self, live: psycopg.Connection, write: Write) -> None:
        """Do it, where it can be done in the state that the migration left; what has an effect has to be there in the end."""
        there = self.rows[write.table]
        value = values.get((write.table, write.column), "")
        query = {
            "insert": f"insert into {write.table} (id) values ({write.id})" if write.table == "c"
            else f"insert into p (id, s) values ({write.id}, 'since {write.id}')",
            "delete": f"delete from {write.table} where id = {write.id}",
            "update": f"update {write.table} set {write.column} = {value} where id = {write.id}",
        }[write.what]  # fmt: skip
        below = [row for row in self.rows["c"].values() if write.table == "p" and row.get("p") == write.id]
        if write.what == "delete" and below:
            return  # what goes along is the server's business, and another test's
        try:
            with live.transaction():
                done = live.execute(query.encode()).rowcount
        except psycopg.Error:
            return
        if not done:
            return
        if write.what == "insert":
            there[write.id] = {"id": write.id}
            self.loose.add((write.table, write.id))
        elif write.what == "delete":
            there.pop(write.id, None)
        else:
            there.setdefault(write.id, {"id": write.id})[write.column] = json.loads(value.replace("'", '"'))


def _rows(journey: Trip) -> dict[str, dict[int, dict[str, Any]]]:
    return {table: {row["id"]: row for row in journey.rows(f"select to_jsonb(t) from {table} t")} for table in "pc"}


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(scripts=steps, since=writes)
def test_there_and_back_with_writes_in_between(base: Trip, scripts: list[str], since: list[Write]) -> None:
    base.afresh(BEFORE)
    script = base.that_run(scripts)
    if not script:
        event("nothing runs")
        return
    oracle = Oracle(_rows(base))
    before = _rows(base)
    plain = base.made(script)
    if plain.status != "proved":
        event("refused")
        return
    base.up(script)
    for write in since:
        oracle.written(base.live, write)
    try:
        base.down(script)
    except psycopg.errors.RaiseException:
        event("stopped by a check")  # what was written since does not fit the schema of before, and nothing was changed
        base.live.execute("rollback")
        return
    except psycopg.IntegrityError:
        event("stopped by a constraint")
        base.live.execute("rollback")
        return
    now = _rows(base)
    left = {(table, key) for table, key, _ in base.conflicts}
    for table, rows in oracle.rows.items():
        missing = rows.keys() - now[table].keys()
        assert not missing, (script, since, table, missing)
        for key, row in rows.items():
            for column, value in row.items():
                got = now[table][key][column]
                assert got == value, (script, since, table, key, column, got, value, before[table].get(key))
        extra = {key for key in now[table].keys() - rows.keys() if (f"public.{table}", str(key)) not in left}
        assert not extra, (script, since, table, extra)
    event(f"{len(base.conflicts)} conflicts")
