"""Which statements of a file stand or fall together.

Prisma's engine sends a file as one simple query. The server runs that in an implicit transaction; a BEGIN of the file's own
joins what stands before it; COMMIT and ROLLBACK end it, and what follows is a new implicit one (PostgreSQL documentation,
"Multiple Statements in a Simple Query"). A statement that cannot run in a transaction block is a segment of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse.statement import Statement

_OUTSIDE: Final = frozenset(
    {"CreatedbStmt", "DropdbStmt", "AlterSystemStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt", "DropSubscriptionStmt"}
)


@dataclass(frozen=True)
class Segment:
    """Statements in the file's order. ``rolled_back``: the file itself takes them back, nothing of them remains."""

    statements: tuple[Statement, ...]
    transactional: bool
    rolled_back: bool = False


def segments_of(statements: Iterable[Statement]) -> tuple[Segment, ...]:
    """The segments of a file; BEGIN, COMMIT and ROLLBACK are part of the segment they open or close."""
    done: list[Segment] = []
    open_: list[Statement] = []

    def close(*, rolled_back: bool = False) -> None:
        if open_:
            done.append(Segment(tuple(open_), transactional=True, rolled_back=rolled_back))
            open_.clear()

    for statement in statements:
        if not statement.transactional:
            close()
            done.append(Segment((statement,), transactional=False))
            continue
        open_.append(statement)
        if statement.control in ("commit", "rollback"):
            close(rolled_back=statement.control == "rollback")
    close()
    return tuple(done)


def transactional(node: Any) -> bool:
    """Whether the server lets the statement run inside a transaction block (``PreventInTransactionBlock`` in its source)."""
    name = node.DESCRIPTOR.name
    if name in ("IndexStmt", "DropStmt"):
        return not node.concurrent
    if name == "ReindexStmt":
        whole = (grammar.REINDEX_OBJECT_SCHEMA, grammar.REINDEX_OBJECT_SYSTEM, grammar.REINDEX_OBJECT_DATABASE)
        return node.kind not in whole and not _option(node.params, "concurrently")
    if name == "VacuumStmt":
        return not node.is_vacuumcmd
    if name == "ClusterStmt":
        return bool(node.HasField("relation"))
    if name == "AlterTableStmt":
        return not any(_detaches_concurrently(each.alter_table_cmd) for each in node.cmds)
    if name == "CreateSubscriptionStmt":
        return _is_off(node.options, "connect") or _is_off(node.options, "create_slot")
    if name == "AlterDatabaseStmt":
        return not _option(node.options, "tablespace")
    if name == "DiscardStmt":
        return bool(node.target != grammar.DISCARD_ALL)
    if name == "TransactionStmt":
        return node.kind not in (grammar.TRANS_STMT_COMMIT_PREPARED, grammar.TRANS_STMT_ROLLBACK_PREPARED)
    return name not in _OUTSIDE


def _detaches_concurrently(command: Any) -> bool:
    if command.subtype == grammar.AT_DetachPartitionFinalize:
        return False
    return bool(command.subtype == grammar.AT_DetachPartition and getattr(command, "def").partition_cmd.concurrent)


def _option(options: Any, name: str) -> bool:
    return any(each.def_elem.defname == name for each in options) and not _is_off(options, name)


def _is_off(options: Any, name: str) -> bool:
    off = {"false", "off", "0"}
    return any(
        each.def_elem.defname == name
        and (
            each.def_elem.arg.string.sval.lower() in off
            or (each.def_elem.arg.HasField("boolean") and not each.def_elem.arg.boolean.boolval)
            or (each.def_elem.arg.HasField("integer") and not each.def_elem.arg.integer.ival)
        )
        for each in options
    )
