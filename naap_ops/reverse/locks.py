"""Which locks a reverse takes: the strongest per relation."""

from __future__ import annotations

from collections.abc import Iterable

from naap_ops.reverse.model import Piece

# PostgreSQL documentation, "Explicit Locking", weakest first.
_LEVELS = (
    "",
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)


def locks(pieces: Iterable[Piece]) -> dict[str, str]:
    """Relation, as the reverse names it when it is first locked -> the strongest lock, in order of appearance."""
    found: dict[str, str] = {}
    for piece in pieces:
        if piece.lock and piece.relation:
            found[piece.relation] = max(found.get(piece.relation, ""), piece.lock, key=_LEVELS.index)
    return found
