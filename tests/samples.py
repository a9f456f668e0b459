"""Databases for the tests of backups: real ones from the corpus of Prisma projects, and one that holds every kind of table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect

CORPUS = "NAAP_OPS_CORPUS"
_BESIDE = Path(__file__).resolve().parents[1].parent / "shared" / "corpus"
ROWS = 7
EVERYTHING = Path(__file__).with_name("everything.sql").read_text(encoding="utf-8")

# Every row of every table is made from its number alone, and every text column is 'row-<n>': so foreign keys between the
# corpus' text ids hold by themselves, and unique columns are unique.
_FILL = """
do $do$
declare
  t record; columns text; expressions text;
begin
  set local session_replication_role = replica;
  for t in select c.oid, c.oid::regclass as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and n.nspname !~ '^(pg_|information_schema)' and c.relname <> '_prisma_migrations' loop
    select string_agg(quote_ident(a.attname), ', ' order by attnum), string_agg(case
        when y.typcategory = 'A' then format('array[]::%s', format_type(a.atttypid, null))
        when y.typtype = 'e' then format('(enum_range(null::%s))[1]', format_type(a.atttypid, null))
        when y.typname in ('text', 'varchar', 'bpchar') then '''row-'' || i'
        when y.typname in ('json', 'jsonb') then format('%L::%s', '{"note": "tab\\tnew\\nline \\\\ ü"}', y.typname)
        when y.typcategory = 'D' then '''2026-01-01''::timestamp + i * interval ''1 hour'''
        when y.typcategory = 'N' then 'i'
        when y.typcategory = 'B' then 'i % 2 = 0'
        when y.typname = 'bytea' then '''\\x00ff''::bytea'
        else 'null' end, ', ' order by attnum)
      into columns, expressions
      from pg_attribute a join pg_type y on y.oid = a.atttypid
      where a.attrelid = t.oid and attnum > 0 and not attisdropped and attgenerated = '';
    execute format('insert into %s (%s) select %s from generate_series(1, %s) i', t.name, columns, expressions, ROWS);
  end loop;
end $do$
"""

BOOKS = """
create table {schema}._prisma_migrations (id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz,
  migration_name varchar(255) not null, logs text, rolled_back_at timestamptz, started_at timestamptz not null default now(),
  applied_steps_count integer not null default 0)
"""


# A history that starts from `prisma db push`: its first migrations stand on a schema that this file stands in for.
_BASED = {"livepeer__naap": ("livepeer__naap--web-next", "before.sql")}


def histories() -> dict[str, list[Path]]:
    """History of the corpus -> its migrations in order, what they stand on included; skipped where the corpus is not."""
    where = Path(os.environ.get(CORPUS, _BESIDE))
    if not where.is_dir():
        pytest.skip(f"no corpus of Prisma projects: {where} is missing, and {CORPUS} does not name its folder")
    found = {each.name: sorted(each.glob("*/migration.sql")) for each in sorted(where.iterdir())}
    for name, (base, before) in _BASED.items():
        found[name] = [*found[base], where / name / before, *found[name]]
    return {name: files for name, files in found.items() if files}


def corpus(history: str) -> str:
    """``baseline.sql`` of a history of the corpus; the test is skipped where the corpus is not."""
    root = Path(os.environ.get(CORPUS) or _BESIDE)
    path = root / history / "baseline.sql"
    if not path.is_file():
        pytest.skip(f"no corpus of Prisma projects: {path} is missing, and {CORPUS} does not name its folder")
    return path.read_text(encoding="utf-8")


def fill(info: ConnInfo, rows: int = ROWS) -> None:
    """Put ``rows`` rows into every table."""
    with connect(info) as connection:
        connection.execute(_FILL.replace("ROWS", str(rows)).encode())


def track(info: ConnInfo, schema: str, *migrations: tuple[str, str]) -> None:
    """Make Prisma's tracking table in ``schema``, with ``(name, state)`` rows: applied, failed, rolled_back."""
    columns = {"applied": "now(), null", "failed": "null, null", "rolled_back": "null, now()"}
    with connect(info) as connection:
        connection.execute(BOOKS.format(schema=f'"{schema}"').encode())
        for number, (name, state) in enumerate(migrations):
            connection.execute(
                f'insert into "{schema}"._prisma_migrations'
                " (id, checksum, migration_name, started_at, finished_at, rolled_back_at)"
                f" select %s, %s, %s, now() + %s * interval '1 second', {columns[state]}".encode(),
                [f"{number:036}", f"{number:064}", name, number],
            )


def naap(info: ConnInfo) -> None:
    """The ten schemas and 112 tables of the corpus' multi-schema project, filled, with Prisma's books in ``public``."""
    with connect(info) as connection:
        connection.execute(corpus("livepeer__naap").encode())
    fill(info)
    track(
        info,
        "public",
        ("20260101000000_init", "applied"),
        ("20260102000000_oops", "rolled_back"),
        ("20260103000000_seats", "applied"),
    )
