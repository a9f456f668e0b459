"""One statement of a migration: its exact text, where it stands, and what the grammar says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from naap_ops.reverse.kinds import Control
from naap_ops.reverse.relations import Relation
from naap_ops.reverse.splitting import parsed_alone


@dataclass(frozen=True)
class Statement:
    """A statement. ``start`` and ``end`` are offsets in bytes into the file; ``sql`` is exactly what stands between them."""

    index: int
    """Place in the file, from 1."""
    sql: str
    """Without the semicolon that ends it, and without the white space and comments around it."""
    comment: str
    """The comments that stand before it, from the first to the end of the last, exactly; empty if there are none."""
    start: int
    end: int
    line: int
    """Line of ``start`` in the file, from 1."""
    tag: str
    """The server's command tag: ``ALTER TABLE``."""
    kinds: tuple[str, ...]
    """Finer than the tag; one for each subcommand of ALTER TABLE: ``ALTER TABLE ADD COLUMN``."""
    transactional: bool
    """False if the server refuses it inside a transaction block."""
    control: Control | None
    relations: tuple[Relation, ...]
    """``(schema or None, name)`` of every table and view it names, each once, cut to 63 bytes."""
    opaque: bool
    """What it does is not in its text: DO, CALL, SELECT of a function."""
    kept: Any = field(default=None, repr=False, compare=False)
    """The node, where it was kept: files of megabytes are not held as trees."""

    @property
    def node(self) -> Any:
        """The protobuf message of the grammar (``AlterTableStmt``, ...). Positions in it count from the start of its chunk."""
        return self.kept if self.kept is not None else parsed_alone(self.sql)
