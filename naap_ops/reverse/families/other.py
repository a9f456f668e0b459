"""Objects without a family of their own: what was made is dropped by the server's words for it; the rest is refused by name.

Refused as well: statements about things that no kind of the catalog here reads, so that their effect is never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Irreversible, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.relations import messages
from naap_ops.reverse.render import Sql, quoted

_UNREAD: Final = (
    "ALTER LARGE OBJECT",
    "GRANT ON LARGE OBJECT",
    "REVOKE ON LARGE OBJECT",
    "COMMENT ON LARGE OBJECT",
    "GRANT ON LANGUAGE",
    "REVOKE ON LANGUAGE",
    "GRANT ON DATABASE",
    "REVOKE ON DATABASE",
    "GRANT ON TABLESPACE",
    "REVOKE ON TABLESPACE",
    "GRANT ON PARAMETER",
    "REVOKE ON PARAMETER",
    "COMMENT ON DATABASE",
    "COMMENT ON ROLE",
    "COMMENT ON TABLESPACE",
    "SECURITY LABEL",
    "GRANT ROLE",
    "REVOKE ROLE",
    "DROP OWNED",
    "REASSIGN OWNED",
    "CREATE SUBSCRIPTION",
    "ALTER SUBSCRIPTION",
    "DROP SUBSCRIPTION",
    "COMMENT ON SUBSCRIPTION",
)
_BELONGINGS: Final = ("GRANT", "REVOKE", "COMMENT", "ALTER")


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, put comments back. Raises Irreversible for what was dropped or altered, and for what is not read."""
    _refuse_unread(step)
    for change in step.of("other"):
        was, now = change.before, change.after
        if was is None:
            yield Piece(Rank.DROP_OTHER, -now.key, sql("other/drop", words=_words(sql, now)), lock="")
        elif now is None or "row_hash" in change.fields:
            what = "dropped" if change.dropped else "altered"
            raise Irreversible(f"{was.type} {was.identity} was {what}, and its definition cannot be read back from the catalog")
        else:
            yield from belongings(step, _words(sql, was), "", was, now)


def _refuse_unread(step: Step) -> None:
    for kind in step.statement.kinds:
        if kind.startswith(_UNREAD):
            raise Irreversible(f"what {kind} changes is not read from the catalog, so that it cannot be put back")
    if step.statement.tag.startswith(_BELONGINGS) and not step.changes and (name := _of_the_server(step.statement.node)):
        raise Irreversible(f"{name} is the server's own: what it was like is not read")


def _of_the_server(node: Any) -> str:
    for each in messages(node):
        kind = each.DESCRIPTOR.name
        parts = [each.schemaname, each.relname] if kind == "RangeVar" else []
        parts = [part.string.sval for part in each.objname] if kind == "ObjectWithArgs" else parts
        if len(parts) > 1 and (parts[0].startswith("pg_") or parts[0] == "information_schema"):
            return ".".join(parts)
    return ""


def _words(sql: Sql, row: Any) -> str:
    """SQL's words for it: the server's own description says some things otherwise than its grammar."""
    kind, identity = row.type.upper().replace("FOREIGN-DATA", "FOREIGN DATA"), row.identity
    if kind == "USER MAPPING":
        identity = "FOR " + identity.replace(" on server ", " SERVER ", 1)
    elif kind == "TRANSFORM":
        identity = identity.replace(" on language ", " LANGUAGE ", 1).replace("for ", "FOR ", 1)
    for schema in (quoted(sql.schema), sql.schema):
        identity = re.sub(rf"(^|[(,]| AS ){re.escape(schema)}\.", r"\1", identity)
    return f"{kind} {identity}"


FAMILY = Family(
    "other",
    frozenset({"other"}),
    (
        "CREATE CAST",
        "CREATE COLLATION",
        "CREATE OPERATOR",
        "CREATE CONVERSION",
        "CREATE TEXT SEARCH",
        "CREATE FOREIGN DATA",
        "CREATE SERVER",
        "CREATE USER MAPPING",
        "CREATE LANGUAGE",
        "CREATE TRANSFORM",
        "CREATE ACCESS METHOD",
        *_UNREAD,
    ),
    reverse,
)
