"""Which migration an operator means: a name, a unique beginning or part of one, ``latest`` or ``failed``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from naap_ops.errors import MigrationAmbiguous, MigrationNotFound
from naap_ops.prisma.tracking import Books, State

LATEST, FAILED = "latest", "failed"
_SHOWN = 5


def resolve(ref: str, known: Iterable[str], books: Sequence[Books], where: str) -> str:
    """The name that ``ref`` stands for among ``known`` and the names in the books.

    ``latest`` is the applied one that was begun last, ``failed`` the only one that failed. Raises MigrationNotFound,
    MigrationAmbiguous.
    """
    names = sorted({*known, *(name for each in books for name in each.names())})
    if ref in names:
        return ref
    if ref == LATEST:
        rows = [row for each in books for row in each.rows if row.live]
        found = [max(rows, key=lambda row: (row.started, row.name)).name] if rows else []
    elif ref == FAILED:
        found = sorted({name for each in books for name in each.names() if each.state(name) is State.FAILED})
    else:
        found = [name for name in names if ref and name.startswith(ref)] or [name for name in names if ref and ref in name]
    if len(found) > 1:
        raise MigrationAmbiguous(ref=ref, count=len(found), candidates=", ".join(found[:_SHOWN]))
    if not found:
        raise MigrationNotFound(ref=ref, folder=where, what=f"{len(names)}: `invoke status` lists them")
    return found[0]
