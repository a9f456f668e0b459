"""Schemas, rows, migrations of every kind that destroys rows, and writes since, all generated: what there is in the end is held
against a copy of the database from before, to which the test itself has applied the writes."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.imaging import Trip

pytestmark = pytest.mark.also(15, 18)

TYPES = {
    "int": ("1", "-2147483648", "2147483647"),
    "numeric": ("'NaN'", "1.50", "'Infinity'", "1e-30"),
    "numeric(8,2)": ("'NaN'", "999999.99", "0"),
    "float8": ("'NaN'", "'-0'", "'-Infinity'", "1e-300"),
    "timestamptz": ("'infinity'", "'4713-01-01 00:00+00 BC'", "'2024-10-27 01:30:00.000001+00'"),
    "date": ("'-infinity'", "'5874897-12-31'", "'2024-02-29'"),
    "text": ("''", "'NULL'", "E'a\\tb\\n\\\\N'", "'ü 😀'"),
    "varchar(9)": ("'x'", "'  y  '"),
    "bytea": ("''", "'\\x00ff'"),
    "int[]": ("'{}'", "'{1,null}'", "'[0:1]={1,2}'"),
    "jsonb": ("'null'", "'{\"a\": 1.00}'", "'[]'"),
    "json": ('\'{"b":1,  "a":2}\'', "'1.0'"),
    "kind": ("'old'", "'new'"),
    "small": ("1", "7"),
    "interval": ("'1 mon -1 day'", "'0'"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'",),
}
KEYS = {
    "int": ("id int primary key", "id"),
    "two": ("id int, at int default 0, primary key (id, at)", "id"),
    "text": ('id text collate "C" primary key', "id"),
    "unique": ("id bigint not null unique", "id"),
    "identity": ("id int generated always as identity primary key", "id"),
}
TARGETS = ("text", "int", "numeric(6,1)", "date", "varchar(2)", "boolean")


@dataclass(frozen=True)
class Shape:
    """Tables ``p`` and ``c``, which refers to it, and to itself; ``c`` is partitioned or not."""

    key: str
    types: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    action: str
    partitioned: bool

    def script(self) -> str:
        columns = ", ".join(f"v{at} {type}" for at, type in enumerate(self.types))
        own = "" if self.partitioned else ", up int references c on delete set null"
        parts = "create table c1 partition of c for values from (minvalue) to (3); create table c2 partition of c default;"
        by = "partition by range (id)" if self.partitioned else ""
        return f"""create type kind as enum ('old', 'new'); create domain small as int check (value < 10);
        create table p ({KEYS[self.key][0]}, {columns});
        create table c (id int primary key, p {self.reference}, w text{own}) {by};
        {parts if self.partitioned else ""} {self.rows()}"""

    @property
    def reference(self) -> str:
        kinds = {"int": "int", "text": 'text collate "C"', "unique": "bigint", "identity": "int"}
        return "int" if self.key == "two" else f"{kinds[self.key]} references p (id) {self.action}"

    def rows(self) -> str:
        lines = []
        for number, chosen in enumerate(self.values, 1):
            values = [TYPES[type][at % len(TYPES[type])] if at else "null" for type, at in zip(self.types, chosen, strict=True)]
            names = ", ".join(f"v{at}" for at, _ in enumerate(self.types))
            lines.append(f"insert into p (id, {names}) overriding system value values ('{number}', {', '.join(values)});")
        for number in range(1, len(self.values) + 2):
            parent = f"'{1 + number % len(self.values)}'" if number % 4 else "null"
            lines.append(f"insert into c (id, p, w) values ({number}, {parent}, 'w{number}');")
        return " ".join(lines) + ("" if self.partitioned else " update c set up = id - 1 where id > 1;")


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    types = tuple(draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=2, max_size=4)))
    row = st.tuples(*(st.integers(0, 4) for _ in types))
    return Shape(
        draw(st.sampled_from(sorted(KEYS))),
        types,
        tuple(draw(st.lists(row, min_size=3, max_size=6))),
        draw(st.sampled_from(("on delete cascade on update cascade", "on delete set null", "on delete cascade"))),
        draw(st.booleans()),
    )


def statements(shape: Shape) -> st.SearchStrategy[str]:
    """One statement, of any kind that destroys rows or values, or one that stands in between."""
    column = st.sampled_from([f"v{at}" for at, _ in enumerate(shape.types)])
    number = st.integers(1, len(shape.values) + 1)
    key = "id::int"
    return st.one_of(
        column.map(lambda c: f"alter table p drop column {c}"),
        column.map(lambda c: f"update p set {c} = null"),
        st.tuples(column, number).map(lambda t: f"update p set {t[0]} = null where {key} > {t[1]}"),
        st.tuples(column, column).map(lambda t: f"update p set {t[0]} = {t[1]}"),
        st.tuples(column, st.sampled_from(TARGETS)).map(lambda t: f"alter table p alter {t[0]} type {t[1]} using null"),
        st.tuples(column, st.sampled_from(TARGETS)).map(lambda t: "alter table p alter {0} type {1} using {0}::{1}".format(*t)),
        column.map(lambda c: f"alter table p rename column {c} to renamed"),
        number.map(lambda n: f"delete from p where {key} = {n}"),
        number.map(lambda n: f"delete from c where id <= {n}"),
        number.map(lambda n: f"update c set w = 'm' where id > {n}"),
        st.sampled_from(
            (
                "truncate c", "truncate p cascade", "drop table c", "drop table p cascade", "update c set p = null",
                "alter table c drop column w", "alter table c drop column p", "alter table c rename to d",
                "alter table p add column extra int not null default 5", "drop type kind cascade", "drop domain small cascade",
                "create type kind2 as enum ('old')", "insert into c (id, w) values (50, 'seed')",
                "insert into c (id, w) select id + 60, w from c", "do $$ begin delete from c where id = 2; end $$",
                "with gone as (delete from c where id < 3 returning id) update p set id = id where false",
                "insert into c (id, w) values (1, 'again'), (51, 'new') on conflict (id) do update set w = excluded.w",
                "create table copy as select * from p; drop table p cascade",
            )
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Write:
    """``where``: done only where that holds in the state that the migration left."""

    sql: str
    where: str = "true"


writes = st.lists(
    st.one_of(
        st.integers(1, 5).map(lambda n: Write(f"delete from c where id = {n}")),
        st.integers(1, 5).map(lambda n: Write(f"update c set w = 'since {n}' where id = {n}")),
        st.integers(70, 73).map(lambda n: Write(f"insert into c (id, w) values ({n}, 'since')")),
        st.integers(1, 3).map(lambda n: Write(f"insert into c (id, p) values ({n + 80}, '{n}')")),
        st.integers(1, 5).map(lambda n: Write(f"update p set v0 = null where id::int = {n}")),
        st.integers(1, 5).map(
            lambda n: Write(f"delete from p where id::int = {n}", f"not exists (select from c where p::int = {n})")
        ),
    ),
    max_size=5,
)


def _written(journey: Trip, write: Write) -> bool:
    """Do it; whether anything has changed."""
    left = journey.contents()
    try:
        with journey.live.transaction():
            if journey.rows(f"select {write.where}") == [True]:
                journey.live.execute(write.sql.encode())
    except psycopg.Error:
        return False
    return journey.contents() != left


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), shape=shapes())
def test_there_and_back(base: Trip, data: st.DataObject, shape: Shape) -> None:
    """Nobody writes meanwhile: everything is as before, but for what was named before the deploy."""
    base.afresh(shape.script())
    script = base.that_run(data.draw(st.lists(statements(shape), min_size=1, max_size=4)))
    was = base.contents()
    plain = base.made(script) if script else None
    if plain is None or plain.status != "proved":
        event("nothing runs, or refused")
        return
    try:
        base.up(script)
    except psycopg.Error as error:  # what runs statement by statement may not run with its images in one transaction
        event(f"not deployed: {type(error).__name__}")
        return
    made = base.made(script, base.images)
    if made.unfit or any(loss["source"] == "cannot" for loss in plain.losses) or plain.proof is None or plain.proof.conditions:
        event("named")
        return
    base.down(script)
    assert base.contents() == was, script
    assert base.conflicts == []
    event("as before")


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), shape=shapes(), since=writes)
def test_there_and_back_with_writes(base: Trip, data: st.DataObject, shape: Shape, since: list[Write]) -> None:
    """The oracle is the database of before, to which the same writes were applied, in the tables that are still the same; rows
    that are listed as conflicts may differ."""
    base.afresh(shape.script())
    script = base.that_run(data.draw(st.lists(statements(shape), min_size=1, max_size=3)))
    plain = base.made(script) if script else None
    if plain is None or plain.status != "proved" or any(loss["source"] == "cannot" for loss in plain.losses):
        event("nothing runs, refused, or named")
        return
    try:
        base.up(script)
    except psycopg.Error as error:
        event(f"not deployed: {type(error).__name__}")
        return
    done = [write for write in since if _written(base, write)]
    if base.made(script, base.images).unfit:
        event("named")
        return
    try:
        base.down(script)
    except (psycopg.errors.RaiseException, psycopg.IntegrityError, psycopg.DataError):
        event("stopped, and nothing was changed")
        return
    now, listed = base.contents(), {(table.removeprefix("public."), key) for table, key, _ in base.conflicts}
    base.afresh(shape.script())
    for write in done:
        # what refers to a row that went is a conflict, and left out
        base.live.execute(f"set session_replication_role = {'origin' if write.where == 'true' else 'replica'}".encode())
        base.live.execute(write.sql.encode())
    base.live.execute("reset session_replication_role")
    wanted = base.contents()
    for table, rows in wanted.items():
        free = {key for name, key in listed if name == table or "." in name}
        assert _others(rows, free) == _others(now[table], free), (script, done, table, listed)
    event(f"{len(done)} writes, {len(listed)} conflicts")


def _others(rows: list[str], free: set[str]) -> list[str]:
    """Rows whose key is not one of these."""
    import json

    return [row for row in rows if str(json.loads(row)["id"]) not in {key.partition(", ")[0] for key in free}]
