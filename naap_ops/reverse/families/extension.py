"""Extensions. One that was there already is left alone; an update has no way back unless the extension itself has one."""

from __future__ import annotations

from collections.abc import Iterator

from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.model import Family, Irreversible, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, quoted


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, create what was dropped in the version and schema it had."""
    if step.statement.node.DESCRIPTOR.name == "AlterExtensionContentsStmt":
        raise Irreversible("what belongs to an extension was changed: its members are not objects of their own here")
    for change in step.of("extension"):
        if change.created:
            yield Piece(Rank.DROP_EXTENSION, -change.after.key, sql("extension/drop", extension=change.after), lock="")
        elif change.dropped:
            yield Piece(
                Rank.CREATE_EXTENSION,
                change.before.key,
                sql("extension/create", extension=change.before, schema=sql.schema),
                lock="",
            )
        else:
            if "version" in change.fields:
                raise Irreversible(
                    f"extension {change.before.name} went from version {change.before.version} to {change.after.version}: "
                    "extensions have no way back"
                )
            if "schema" in change.fields:
                if not change.before.relocatable:
                    raise Irreversible(f"extension {change.before.name} cannot be moved back to schema {change.before.schema}")
                yield Piece(Rank.ALTER_EXTENSION, 1, sql("extension/move", extension=change.before), lock="")
        was = change.before
        if was is not None:  # made again, it has the comment of its control file, which is not known here
            yield from belongings(step, f"EXTENSION {quoted(was.name)}", "", was, change.after)


def losses(step: Step, _sql: Sql) -> Iterator[Loss]:
    """Rows in the extension's own tables."""
    for change in step.of("extension"):
        if change.dropped and change.before.configured:
            yield Loss("rows", f"extension {change.before.name} keeps rows in tables of its own; they went with it")


FAMILY = Family(
    "extension", frozenset({"extension"}), ("CREATE EXTENSION", "DROP EXTENSION", "ALTER EXTENSION"), reverse, losses=losses
)
