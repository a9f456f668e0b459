"""Seeding on real servers: rows in tables of every sort, and a reason for those that cannot have any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from psycopg import sql

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import Connection, connect
from naap_ops.reverse.seeding import Seeded, seed

TYPES = (
    "smallint", "int", "bigint", "real", "float8", "numeric", "numeric(4,2)", "numeric(3,3)", "numeric(6,0)", "money", "oid",
    "bool", "text", "varchar", "varchar(1)", "varchar(9)", "char", "char(4)", '"char"', "name", "uuid", "bytea", "bit",
    "bit(5)", "varbit(3)", "date", "time", "time(0)", "timetz", "timestamp", "timestamp(3)", "timestamptz", "interval",
    "interval day to second", "json", "jsonb", "jsonpath", "inet", "cidr", "macaddr", "macaddr8", "tsvector", "tsquery",
    "pg_lsn", "tid", "regclass", "point", "line", "lseg", "box", "path", "polygon", "circle", "int4range", "numrange",
    "tstzrange", "daterange", "int8multirange", "text[]", "int[]", "json[]", "bytea[]", "timestamptz[]", "box[]",
    '"S p"."Mood s"', '"S p"."Mood s"[]', '"S p".pair', '"S p".pair[]', '"S p".span', "upper2", "small", "mail",
)  # fmt: skip
KINDS = """
create schema "S p";
create type "S p"."Mood s" as enum ('low', 'so "so"', 'Hi''gh\\');
create type "S p".pair as (a int, "b ""c" text, m "S p"."Mood s");
create type "S p".span as range (subtype = text);
create domain upper2 as text not null check (value ~ '^[A-Z]{2}$');
create domain base as int check (value > 100);
create domain small as base check (value < 103);
create domain mail as varchar(12) check (value like '%@%');
"""


@pytest.fixture
def session(any_database: ConnInfo) -> Iterator[Connection]:
    with closing(connect(any_database)) as connection:
        yield connection


def filled(connection: Connection, schema: str, *names: str, rows: int = 3) -> Seeded:
    connection.execute(schema.encode())
    return seed(connection, [("public", name) for name in names], rows=rows)


def table(connection: Connection, name: str, columns: str = "*") -> list[tuple[Any, ...]]:
    return connection.execute(f"select {columns} from {name} order by ctid".encode()).fetchall()


def test_every_type(database: ConnInfo) -> None:
    """NULL, NOT NULL and array or not: three different values of every type, as far as it has as many."""
    with closing(connect(database)) as connection:
        columns = ", ".join(f'"c ""{number}" {kind} not null, n{number} {kind}' for number, kind in enumerate(TYPES))
        found = filled(connection, f"{KINDS} create table t ({columns})", "t")
        assert found == Seeded(frozenset({("public", "t")}), {})
        for number, kind in enumerate(TYPES):
            query = f'select count(*), count(distinct "c ""{number}"::text), count(n{number}) from t'
            row = connection.execute(query.encode()).fetchone()
            few = 2 if kind in {"bool", "bit", "small", "mail"} else 3
            assert row is not None
            assert (kind, row[0], row[1] >= few, row[2]) == (kind, 3, True, 3 if kind == "upper2" else 2)


def test_keys_of_every_sort(session: Connection) -> None:
    found = filled(
        session,
        """create table tenant (id uuid primary key default gen_random_uuid(), name text unique not null);
        create table "User" (tenant uuid references tenant, id int generated always as identity, boss int,
          primary key (tenant, id), foreign key (tenant, boss) references "User");
        create table profile (id serial primary key, tenant uuid, "user" int, foreign key (tenant, "user") references "User",
          unique (tenant, "user"));
        create table self (id bigint generated always as identity primary key, parent bigint not null references self);
        create table hen (id serial primary key, egg text not null);
        create table egg (id text primary key, hen int not null references hen);
        alter table hen add foreign key (egg) references egg;
        create table a (id int primary key, b int); create table b (id int primary key, a int not null references a);
        alter table a add foreign key (b) references b deferrable initially deferred;
        create table far (id int primary key); create table near (id int primary key, far int not null references far);
        create table friend (a int not null references a, b int not null references a, check (a <> b), unique (a, b));
        create table mine (near int references near);""",
        "profile", "self", "hen", "a", "mine", "friend",
    )  # fmt: skip
    assert found.skipped == {}
    assert len(table(session, "profile")) == 3
    names = ("tenant", '"User"', "self", "hen", "egg", "a", "b", "far", "near", "mine", "friend")
    assert {len(table(session, name)) for name in names} == {3}
    assert session.execute('select count(*) from profile where "user" is not null').fetchone() == (2,)
    assert session.execute("select count(*) from a where b is not null").fetchone() == (1,)
    # The sequence was not used for keys written out, and does not collide with them.
    session.execute("insert into self (parent) select (select min(id) from self) from generate_series(1, 40)")


def test_conditions(session: Connection) -> None:
    found = filled(
        session,
        """create table c (kind text not null check (kind in ('card', 'it''s')), low int not null, high int not null,
          check (low >= 1000 and high > low * 2), currency char(3) not null check (currency ~ '^[A-Z]{3}$'),
          "User" int, "Team" int, check (num_nonnulls("User", "Team") = 1),
          doc jsonb not null check (jsonb_typeof(doc) = 'array'),
          starts timestamptz not null, ends timestamptz not null check (ends > starts), url text check (url like 'https://%'),
          ratio numeric not null check (ratio between 0.25 and 0.26), code text not null check (length(code) = 17),
          total int generated always as (low + high) stored check (total > 0));
        create table p (id serial, region text, at date, primary key (id, region, at)) partition by list (region);
        create table p_eu partition of p for values in ('eu') partition by range (at);
        create table p_eu_24 partition of p_eu for values from ('2031-01-01') to ('2032-01-01');
        create table p_us partition of p for values in ('us', 'ca');
        create table h (id int primary key) partition by hash (id);
        create table h1 partition of h for values with (modulus 7, remainder 3);
        create table h2 partition of h for values with (modulus 7, remainder 4);
        create table d (i int) partition by range (i);
        create table d_default partition of d default; create table d_1 partition of d for values from (1) to (1000000);""",
        "c", "p", "h", "d", "d_1", "d_default",
    )  # fmt: skip
    assert found.skipped == {}
    assert len(table(session, "c")) == 3
    assert {row[0] for row in table(session, "c", "kind")} == {"card", "it's"}
    assert {row[0] for row in table(session, "p", "region")} == {"eu", "us"}


def test_defaults_nulls_and_generated(session: Connection) -> None:
    filled(
        session,
        """create table t (id serial primary key, at timestamptz not null default '2000-01-01', note text default 'none',
          tags jsonb not null default '[]', twice int generated always as (n * 2) stored, n int not null);
        create table nothing (); create table only_id (id bigint generated always as identity);""",
        "t", "nothing", "only_id",
    )  # fmt: skip
    assert [row[0] for row in table(session, "t", "id")] == [1, 2, 3]
    assert [row[0] for row in table(session, "t", "at = '2000-01-01'")].count(True) == 1
    notes = [row[0] for row in table(session, "t", "note")]
    assert "none" in notes
    assert None in notes
    assert all(isinstance(row[0], list) for row in table(session, "t", "tags"))
    assert [len(table(session, name)) for name in ("nothing", "only_id")] == [3, 3]


def test_what_cannot_be_filled_has_a_reason(session: Connection) -> None:
    found = filled(
        session,
        """create function refuse() returns trigger language plpgsql as $$ begin raise 'not on a Saturday'; end $$;
        create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
        create table raising (i int); create trigger t before insert on raising for each row execute function refuse();
        create table late (i int);
        create constraint trigger t after insert on late deferrable initially deferred for each row execute function refuse();
        create table swallowing (i int); create trigger t before insert on swallowing for each row execute function swallow();
        create table never (i int check (i > 5 and i < 3 and i is not null));
        create table child (n int not null);""",
        "raising", "late", "swallowing", "never", "child",
    )  # fmt: skip
    assert found.filled == {("public", "child")}
    assert {name: reason for (_, name), reason in found.skipped.items()} == {
        "raising": "not on a Saturday",
        "late": "not on a Saturday",
        "swallowing": "no row was taken",
        "never": 'new row for relation "never" violates check constraint "never_i_check"',
    }
    found = filled(
        session,
        """create table orphan (id int primary key);
        create trigger t before insert on orphan for each row execute function refuse();
        create table of_orphan (id int not null references orphan); create table shell (x pg_node_tree not null);
        create table empty_root (i int) partition by list (i); create view v as select 1;""",
        "of_orphan", "shell", "empty_root", "v", "absent",
    )  # fmt: skip
    assert found.filled == frozenset()
    assert {name: reason for (_, name), reason in found.skipped.items()} == {
        "of_orphan": 'needs a row of "public"."orphan", which has none',
        "shell": "column x is of a type without known values: pg_node_tree",
        "empty_root": 'no partition of relation "empty_root" found for row',
    }


def test_a_trigger_that_takes_only_some_rows(session: Connection) -> None:
    """The table is filled with what goes in when its rows are tried one by one and in other shapes."""
    found = filled(
        session,
        """create function picky() returns trigger language plpgsql as $$ begin
          if new.note is not null then raise 'no notes'; end if; return new; end $$;
        create table picky (id int primary key, note text);
        create trigger t before insert on picky for each row execute function picky();
        create domain big as int check (value > 1000); create table element (i big[] not null);""",
        "picky", "element",
    )  # fmt: skip
    assert found.skipped == {}
    assert {row[1] for row in table(session, "picky")} == {None}


def test_tables_with_rows_are_left_alone(session: Connection) -> None:
    found = filled(session, "create table t (i int); insert into t values (42)", "t")
    assert found.filled == {("public", "t")}
    assert table(session, "t") == [(42,)]


@pytest.mark.parametrize("rows", [1, 2, 12])
def test_number_of_rows(session: Connection, rows: int) -> None:
    filled(
        session, "create table t (id text primary key, b bool, n varchar(1) not null default 'x', r int unique)", "t", rows=rows
    )
    assert len(table(session, "t")) == rows


def test_plain_strings_can_be_converted(session: Connection) -> None:
    schema = "create table t (a text not null, b text not null, c text not null); create table u (a text not null)"
    session.execute(schema.encode())
    names = [("public", "t"), ("public", "u")]
    seed(session, names, plain=True)
    session.execute(
        "alter table t alter a type int using a::int, alter b type jsonb using b::jsonb, alter c type varchar(8);"
        " insert into u select a from t; alter table u add primary key (a)"
    )


def test_in_the_callers_transaction(session: Connection) -> None:
    """Everything can be rolled back; failures do not abort it; deferred checks are made at once and deferred again."""
    session.execute(
        """create table p (id int primary key);
        create table c (p int not null references p deferrable initially deferred, check (p > 5 and p < 3));
        create table k (p int not null references p deferrable initially deferred)"""
    )
    with session.transaction(force_rollback=True):
        for _ in range(7):
            found = seed(session, [("public", "c"), ("public", "k")])
            assert (len(found.filled), len(found.skipped)) == (1, 1)
        session.execute("alter table k add x int")
        session.execute("insert into k values (99)")
        assert len(table(session, "k")) == 4
    assert [table(session, name) for name in ("p", "c", "k")] == [[], [], []]


def test_strange_sessions(session: Connection) -> None:
    """No standard strings, another search path, names that need quotes."""
    session.execute("set standard_conforming_strings = off; set search_path = ''; set client_min_messages = error")
    session.execute('create schema "a\'b\\"; create table "a\'b\\"."t""$$%s" ("i\'$naap$\\" text not null, "SELECT" text)')
    name = ("a'b\\", 't"$$%s')
    assert seed(session, [name]) == Seeded(frozenset({name}), {})
    assert session.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(*name))).fetchone() == (3,)
