"""Marks on what a restore makes or leaves behind: JSON in the object's comment, which keeps the comment it had before.

Nothing is ever dropped or swapped back by its name alone: only what bears a mark is ours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from naap_ops import clock

_KEY = "naap_ops"

RESTORE = "restore"
"""An aside database that is being filled."""
READY = "ready"
"""One that is loaded and checked, and waits to be put in place by the procedure named in its mark."""
BEFORE = "before"
"""What was live until a restore took its place."""
UNDONE = "undone"
"""What a restore had put in place, until that was undone."""


@dataclass(frozen=True)
class Mark:
    """``role`` is one of the four above, ``of`` the live object's name, ``comment`` the object's own comment, ``data`` what
    undoing needs to know."""

    role: str
    of: str
    backup: str | None = None
    comment: str | None = None
    at: str = field(default_factory=clock.iso)
    data: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """As a comment."""
        return json.dumps({_KEY: asdict(self)}, ensure_ascii=False)


def read(comment: str | None) -> Mark | None:
    """The mark in a comment, None when it is not one of ours."""
    try:
        return Mark(**json.loads(comment or "")[_KEY])
    except (ValueError, KeyError, TypeError):
        return None
