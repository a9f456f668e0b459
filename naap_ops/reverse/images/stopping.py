"""What stops a reverse in the middle, because of rows that it can neither bring back nor keep: with their number and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from naap_ops.reverse.render import literal, quoted

_KEYS: Final = 5


def stop(table: str, key: Sequence[str], where: str, reason: str) -> str:
    """SQL that stops with the number of rows ``t`` of ``table`` of which ``where`` holds, and with some of their keys."""
    listed = ", ".join(f"t.{quoted(name)}" for name in key) or "t.ctid"
    body = (
        "DECLARE n bigint; named text; BEGIN "
        f"SELECT count(*), string_agg(key, '; ') FILTER (WHERE nth <= {_KEYS}) INTO n, named FROM "
        f"(SELECT concat_ws(', ', {listed}) AS key, row_number() OVER (ORDER BY {listed}) AS nth "
        f"FROM {table} t WHERE {where}) found; IF n > 0 THEN RAISE EXCEPTION USING MESSAGE = "
        f"{literal(reason)} || ' (' || n || CASE n WHEN 1 THEN ' row' ELSE ' rows' END || ', of key ' || named "
        f"|| CASE WHEN n > {_KEYS} THEN ', ...' ELSE '' END || ')'; END IF; END"
    )
    return f"DO {literal(body)}"
