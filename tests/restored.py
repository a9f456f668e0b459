"""What the tests of restores look at: the databases of a server, what a database holds, and what it is besides its content."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql

from naap_ops import process
from naap_ops.config.settings import ToolsSettings
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.digest import Digest, digests
from naap_ops.postgres.properties import DatabaseProps, properties
from naap_ops.postgres.session import Connection, connect
from naap_ops.postgres.tools import Toolset, find_tools
from tests import samples
from tests.desk import Desk, end_spawned

NAME = """Na"ap's {x} 50% ü\\"""

NAMES = (
    NAME,
    "MixedCase",
    "with space",
    "host=nowhere dbname=postgres",
    "-leading",
    "%2F/?&#",
    "sixty-three bytes " + "x" * 45,
    "größe " + "ü" * 27,
)

OWNER, READER = "naap owner", "naap reader's 50%"

# On top of samples.EVERYTHING: what belongs to roles, and more kinds of objects.
FURTHER = f"""
create schema tenant_acme authorization "{OWNER}";
create table tenant_acme.invoice (id uuid primary key default gen_random_uuid(), cents int not null check (cents > 0),
  "user" bigint not null references public."User" on delete cascade deferrable initially deferred);
alter table tenant_acme.invoice owner to "{OWNER}";
grant usage on schema tenant_acme to "{READER}";
grant select (cents) on tenant_acme.invoice to "{READER}" with grant option;
alter default privileges for role "{OWNER}" in schema tenant_acme grant select on tables to "{READER}";
alter table tenant_acme.invoice enable row level security; alter table tenant_acme.invoice force row level security;
create policy mine on tenant_acme.invoice for select to "{READER}" using (cents < 5);
create type tenant_acme.pair as (a int, b text);
create table tenant_acme.pairs (p tenant_acme.pair, n numrange, exclude using gist (n with &&));
insert into tenant_acme.pairs values (row(1, 'x, "y"'), '[1,5)');
create procedure tenant_acme.p() language sql security definer set search_path = '' as 'select 1';
create rule nothing as on delete to tenant_acme.pairs do instead nothing;
create index partial on tenant_acme.invoice (cents desc) include ("user") where cents > 2;
alter table tenant_acme.pairs replica identity full;
comment on column tenant_acme.invoice.cents is 'it''s "in" cents, 50% ü';
comment on schema tenant_acme is 'Acme';
insert into tenant_acme.invoice (cents, "user") select id, id from public."User";
"""


@contextmanager
def swept(info: ConnInfo) -> Iterator[None]:
    """Databases and roles that come up on a server within the block are dropped at its end."""
    before = _present(info)
    try:
        yield
    finally:
        end_spawned()  # or a restore goes on making databases while they are dropped
        databases, roles = (now - then for now, then in zip(_present(info), before, strict=True))
        with closing(connect(info, dbname="postgres")) as session:
            for gid, where in session.execute("select gid, database from pg_prepared_xacts").fetchall():
                with closing(connect(info, dbname=where)) as there:
                    there.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
            for name in databases:
                # A statement of a killed restore may still run in the server, and drop or rename it.
                with suppress(errors.InvalidCatalogName):
                    session.execute(sql.SQL("alter database {} is_template false").format(sql.Identifier(name)))
                session.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
            for name in roles:
                session.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def _present(info: ConnInfo) -> tuple[set[str], set[str]]:
    return set(databases(info)), set(column(info.with_dbname("postgres"), "select rolname from pg_roles"))


def column(info: ConnInfo, query: str) -> list[Any]:
    """The first column of all rows."""
    with closing(connect(info)) as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


def databases(info: ConnInfo) -> list[str]:
    """The databases of the server."""
    return column(info.with_dbname("postgres"), "select datname from pg_database order by datname")


def create(info: ConnInfo, name: str, words: str = "") -> ConnInfo:
    """An empty database."""
    with closing(connect(info, dbname="postgres")) as session:
        statement = sql.SQL("create database {} template template0 ").format(sql.Identifier(name))
        session.execute(statement + sql.SQL(words))
    return info.with_dbname(name)


def make_roles(info: ConnInfo) -> None:
    """The roles that the rich sample's objects belong to."""
    with closing(connect(info, dbname="postgres")) as session:
        for role in (OWNER, READER):
            session.execute(sql.SQL("create role {}").format(sql.Identifier(role)))


def rich(info: ConnInfo) -> None:
    """Every kind of table and object, rights of other roles, an extension where there is one."""
    make_roles(info)
    with closing(connect(info)) as connection:
        connection.execute(samples.EVERYTHING.encode())
        connection.execute(FURTHER.encode())
        available = "select name from pg_available_extensions where name in ('hstore', 'vector') order by 1 limit 1"
        for (name,) in connection.execute(available.encode()).fetchall():
            connection.execute(f"create schema ext; create extension {name} schema ext".encode())
    samples.track(info, "public", ("20260101000000_init", "applied"))


@dataclass(frozen=True)
class Content:
    """All that a database holds, comparable."""

    tables: dict[str, Digest]
    structure: str
    sequences: list[Any]
    large_objects: list[Any]
    views: list[Any]


def content(info: ConnInfo) -> Content:
    """Read the whole database."""
    with closing(connect(info)) as connection:
        return Content(
            digests(connection),
            structure(info),
            connection.execute("select schemaname, sequencename, last_value from pg_sequences order by 1, 2").fetchall(),
            connection.execute("select loid, pageno, data from pg_largeobject order by 1, 2").fetchall(),
            sorted(connection.execute("select mood::text, count from public.summary").fetchall()) if _has_views(info) else [],
        )


def _has_views(info: ConnInfo) -> bool:
    return bool(column(info, "select 1 from pg_matviews where matviewname = 'summary'"))


def tables(info: ConnInfo, dbname: str | None = None) -> dict[str, Digest]:
    """A digest per table."""
    with closing(connect(info, dbname=dbname)) as connection:
        return digests(connection)


def tools(info: ConnInfo) -> Toolset:
    """The client tools of the server's major."""
    with closing(connect(info, dbname="postgres")) as connection:
        return find_tools(connection.info.server_version // 10000, ToolsSettings())


def dumped(info: ConnInfo, *words: str) -> bytes:
    """What pg_dump prints."""
    command = tools(info).command("pg_dump", words, info)
    return process.run(command.argv, env=command.env, input=command.preamble or None)[1]


def structure(info: ConnInfo) -> str:
    """``pg_dump -s`` without the lines that differ from call to call."""
    lines = dumped(info, "-s").decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def props(info: ConnInfo, name: str | None = None) -> DatabaseProps:
    """What the database is besides its content."""
    with closing(connect(info, dbname="postgres")) as session:
        return properties(session, name or info.dbname or "")


def desk_with_rows(desk: Desk, rows: int = 100) -> Desk:
    """One table ``t`` of ``rows`` numbers, a second one that refers to it, and the word ``old`` in a third."""
    desk.sql(
        "create table t (i int primary key, s text)",
        f"insert into t select i, md5(i::text) from generate_series(1, {rows}) i",
        "create table r (i int references t)",
        "insert into r select i from t",
        "create table word (w text)",
        "insert into word values ('old')",
    )
    return desk


# --- stopping a restore at a chosen place ---------------------------------------------------------------------------

_HOLD = "naap_ops tests: hold the load"

# Roles are seen from every database: while that one is there, the rows of this table do not go in.
HELD = f"""
create function public.hold(i int) returns boolean language plpgsql as $$ begin
  while exists (select from pg_catalog.pg_roles where rolname = '{_HOLD}') loop perform pg_sleep(0.01); end loop;
  return true;
end $$;
create table held (i int check (public.hold(i)));
insert into held values (1);
"""


@contextmanager
def load_held(info: ConnInfo) -> Iterator[None]:
    """Within the block, a load of :data:`HELD` does not get past its rows."""
    role = sql.Identifier(_HOLD)
    with closing(connect(info, dbname="postgres")) as session:
        session.execute(sql.SQL("create role {}").format(role))
    try:
        yield
    finally:
        with closing(connect(info, dbname="postgres")) as session:
            session.execute(sql.SQL("drop role if exists {}").format(role))


def loading(info: ConnInfo) -> list[int]:
    """Server processes that are held in a load."""
    query = "select pid from pg_stat_activity where query like 'COPY public.held %' and wait_event = 'PgSleep'"
    return column(info.with_dbname("postgres"), query)


@contextmanager
def swap_held(info: ConnInfo) -> Iterator[Connection]:
    """Within the block, or until the session it gives ends its transaction, the live database cannot be renamed.

    New connections to it wait, too, once somebody tries.
    """
    with closing(connect(info, dbname="postgres", application_name="holder", autocommit=False)) as holder:
        text = sql.SQL("comment on database {} is 'held'").format(sql.Identifier(info.dbname or ""))
        holder.execute(text)
        yield holder


def swapping(info: ConnInfo) -> list[int]:
    """Server processes that wait for the live database's lock."""
    query = "select pid from pg_stat_activity where application_name = 'naap_ops swap' and wait_event_type = 'Lock'"
    return column(info.with_dbname("postgres"), query)


def oids(info: ConnInfo, names: Collection[str]) -> set[int]:
    """The oids of databases: another one may have got the same name within its second."""
    with closing(connect(info, dbname="postgres")) as session:
        query = "select oid from pg_database where datname = any(%s)"
        return {row[0] for row in session.execute(query, [list(names)])}


def ours(info: ConnInfo, what: str) -> list[str]:
    """Databases with a name that a restore of this database has given: ``restore``, ``before``, ``undone``."""
    return [name for name in databases(info) if name.startswith(f"{info.dbname}__{what}_")]
