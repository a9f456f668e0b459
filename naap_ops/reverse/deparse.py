"""Trees of the grammar as SQL again."""

from __future__ import annotations

from typing import Any

import postgast
from postgast import pg_query_pb2 as grammar


def query(select: Any) -> str:
    """A SELECT's text: the grammar's printer takes whole statements only."""
    whole = grammar.ParseResult()
    whole.stmts.add().stmt.select_stmt.CopyFrom(select)
    return str(postgast.deparse(whole))


def expression(node: Any) -> str:
    """An expression's text."""
    select = grammar.SelectStmt(limit_option=grammar.LIMIT_OPTION_DEFAULT, op=grammar.SETOP_NONE)
    select.target_list.add().res_target.val.CopyFrom(node)
    return query(select).removeprefix("SELECT ")
