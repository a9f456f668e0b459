"""The database that is measured: several schemas as Prisma makes them, with rows computed from their own numbers.

The content is the same on every machine (a hash of the row number, no random numbers). Text is made of words, so that it
compresses about as well as real text does. :data:`SMALL` is a table with about 2 % of the bytes, :data:`LARGE` the largest.
"""

from __future__ import annotations

import string
from pathlib import Path

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.session import connect

SMALL = "public.Invoice"
LARGE = "public.AuditEvent"

# Rows per megabyte of tables and indexes; tuned so that pg_database_size comes out within three percent of what was asked for.
_ROWS_PER_MB = {
    "user": 115,
    "invoice": 57,
    "audit": 630,
    "product": 12,
    "order": 340,
    "item": 1140,
    "transaction": 800,
    "document": 240,
}
_EMPTY_MB = 8  # what a database without a table takes


def fill(info: ConnInfo, size_mb: int) -> None:
    """Fill the empty database that ``info`` names to about ``size_mb`` megabytes (10**6 bytes, as pg_database_size counts)."""
    with connect(info) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET work_mem = '128MB'")
        connection.execute("SET client_min_messages = warning")
        connection.execute(_script(size_mb).encode())
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _script(size_mb: int) -> str:
    rows = {f"rows_{name}": str(max(10, each * (size_mb - _EMPTY_MB))) for name, each in _ROWS_PER_MB.items()}
    template = Path(__file__).with_name("sample.sql").read_text(encoding="utf-8")
    return string.Template(template).substitute(rows)


def share(info: ConnInfo, table: str) -> float:
    """The part of the database's bytes that ``schema.table`` holds with its indexes."""
    with connect(info) as connection:
        row = connection.execute(
            "SELECT pg_total_relation_size(format('%%I.%%I', %s::text, %s::text))::float8"
            " / pg_database_size(current_database())",
            table.split("."),
        ).fetchone()
    assert row is not None
    return float(row[0])
