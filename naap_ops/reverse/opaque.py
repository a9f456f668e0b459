"""Whether what a statement does can be told from its text: DO, CALL and SELECT of a function hide it."""

from __future__ import annotations

from typing import Any

from naap_ops.reverse.functions import HARMLESS
from naap_ops.reverse.relations import messages


def is_opaque(node: Any) -> bool:
    """True for DO, CALL, EXECUTE, and for a SELECT that calls a function which is not known to change nothing."""
    kind = node.DESCRIPTOR.name
    if kind in ("DoStmt", "CallStmt", "ExecuteStmt"):
        return True
    return kind == "SelectStmt" and any(each.DESCRIPTOR.name == "FuncCall" and not _harmless(each) for each in messages(node))


def _harmless(call: Any) -> bool:
    parts = [each.string.sval for each in call.funcname]
    return parts[-1] in HARMLESS and (len(parts) == 1 or parts[0] == "pg_catalog")
