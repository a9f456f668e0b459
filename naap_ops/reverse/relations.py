"""Which tables a statement names, wherever it names them: targets, foreign keys, sub-selects, object lists.

Names are as the server will hold them: folded to lower case unless quoted, cut to 63 bytes at a character's boundary (the
grammar does both). Nothing is resolved: a name without a schema has None for it. Names of common table
expressions are not tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from postgast import pg_query_pb2 as grammar

Relation = tuple[str | None, str]

_MESSAGE: Final = FieldDescriptor.TYPE_MESSAGE
_LEAVES: Final = frozenset({"A_Const", "String", "Integer", "ColumnRef", "A_Star", "Alias", "ParamRef", "SetToDefault"})
_TABLES: Final = frozenset({grammar.OBJECT_TABLE, grammar.OBJECT_VIEW, grammar.OBJECT_MATVIEW, grammar.OBJECT_FOREIGN_TABLE})
# Objects that are named after their table: the last part of the name is their own.
_ON_TABLE: Final = frozenset(
    {grammar.OBJECT_TRIGGER, grammar.OBJECT_POLICY, grammar.OBJECT_RULE, grammar.OBJECT_COLUMN, grammar.OBJECT_TABCONSTRAINT}
)
_NOT_TABLES: Final = frozenset({grammar.OBJECT_INDEX, grammar.OBJECT_SEQUENCE, grammar.OBJECT_TYPE, grammar.OBJECT_ATTRIBUTE})
_KIND_FIELDS: Final = {
    "AlterObjectSchemaStmt": "object_type",
    "AlterTableStmt": "objtype",
    "CommentStmt": "objtype",
    "DropStmt": "remove_type",
    "GrantStmt": "objtype",
    "RenameStmt": "rename_type",
    "SecLabelStmt": "objtype",
}


def unwrapped(node: Any) -> Any:
    """The concrete message inside a ``Node``; None for an empty one (as in the lists of DISTINCT)."""
    if node.DESCRIPTOR.name != "Node":
        return node
    which = node.WhichOneof("node")
    return None if which is None else getattr(node, which)


def messages(root: Any) -> Iterator[Any]:
    """Every message of a tree, the root first, in the order of the grammar's fields; no deeper than memory allows."""
    stack = [root]
    while stack:
        node = unwrapped(stack.pop())
        if node is None:
            continue
        yield node
        if node.DESCRIPTOR.name in _LEAVES:
            continue
        below: list[Any] = []
        for field, value in node.ListFields():
            if field.type == _MESSAGE:
                below.extend(value if field.is_repeated else (value,))
        stack.extend(reversed(below))


def relations_of(root: Any, *, flat: bool = False) -> tuple[Relation, ...]:
    """The tables named by a statement's node, each once. ``flat``: it holds no sub-select, so its rows need no search."""
    found: dict[Relation, None] = {}
    expressions: set[str] = set()
    if flat and root.DESCRIPTOR.name == "InsertStmt":
        return (_of_range(root.relation),)
    if root.DESCRIPTOR.name == "CreateTableAsStmt":  # its query comes first in the tree, its own table in the text
        found[_of_range(root.into.rel)] = None
    _listed(root, found)
    if not _names_no_table(root):
        for node in messages(root):
            kind = node.DESCRIPTOR.name
            if kind == "RangeVar":
                found[_of_range(node)] = None
            elif kind == "CommonTableExpr":
                expressions.add(node.ctename)
    return tuple(relation for relation in found if relation[0] is not None or relation[1] not in expressions)


def _of_range(node: Any) -> Relation:
    return (node.schemaname or None, node.relname)


def _names_no_table(root: Any) -> bool:
    kind = root.DESCRIPTOR.name
    if kind in ("CreateSeqStmt", "AlterSeqStmt", "CompositeTypeStmt"):
        return True
    field = _KIND_FIELDS.get(kind)
    if field is None:
        return False
    column = kind == "RenameStmt" and root.rename_type == grammar.OBJECT_COLUMN
    return (root.relation_type if column else getattr(root, field)) in _NOT_TABLES


def _listed(root: Any, found: dict[Relation, None]) -> None:
    """Tables named by lists of strings: what is dropped or commented on, and the owner of a sequence."""
    kind = root.DESCRIPTOR.name
    if kind in ("DropStmt", "CommentStmt", "SecLabelStmt"):
        objects = root.objects if kind == "DropStmt" else [root.object]
        what = getattr(root, _KIND_FIELDS[kind])
        for each in objects:
            parts = _strings(unwrapped(each))
            _add(parts if what in _TABLES else parts[:-1] if what in _ON_TABLE else [], found)
    elif kind in ("CreateSeqStmt", "AlterSeqStmt"):
        for option in root.options:
            if option.def_elem.defname == "owned_by":
                _add(_strings(unwrapped(option.def_elem.arg))[:-1], found)


def _strings(node: Any) -> list[str]:
    if node is None or node.DESCRIPTOR.name != "List":
        return []
    return [item.string.sval for item in node.items]


def _add(parts: list[str], found: dict[Relation, None]) -> None:
    if parts:
        found[parts[-2] if len(parts) > 1 else None, parts[-1]] = None
