"""ALTER DEFAULT PRIVILEGES: what objects made later are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.acl import Grants, default_acl, parse_acl, statements
from naap_ops.reverse.model import Family, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql

_WORDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
_KINDS = {"r": "table", "S": "sequence", "f": "routine", "T": "type", "n": "schema", "L": "large object"}


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Grants and revokes from what is set now to what was set before."""
    for change in step.of("default_privileges"):
        row = change.before or change.after
        have, want = (_grants(step, row, each) for each in (change.after, change.before))
        for text in statements(_WORDS[row.objects], have, want):
            yield Piece(Rank.PRIVILEGES, 0, sql("default_privileges/alter", privileges=row, statement=text), lock="")


def _grants(step: Step, row: Any, state: Any) -> Grants:
    if state is not None:
        return parse_acl(state.acl)
    # nothing set: those of one schema add to the others; those of all schemas replace the built-in ones
    return {} if row.schema else default_acl(_KINDS[row.objects], row.role, step.before.major)


FAMILY = Family("default_privileges", frozenset({"default_privileges"}), ("ALTER DEFAULT PRIVILEGES",), reverse)
