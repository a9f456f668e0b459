"""Enums, composite types, ranges.

An enum cannot lose a label in place. Its reverse makes the old type beside it, moves every column over by way of text, and puts
the old one in its place, as Prisma does; what stands on such columns (views, indexes with a predicate, checks, policies,
triggers, routines that take the type) steps aside meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from naap_ops.postgres.catalog.difference import Change
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import aside
from naap_ops.reverse.belongings import belongings
from naap_ops.reverse.casts import base
from naap_ops.reverse.model import Check, Family, Irreversible, Loss, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import Sql, literal, quoted

_TEXTS: Final = ("text", "character varying", "citext", "character")


def reverse(step: Step, sql: Sql) -> Iterator[Piece]:
    """Drop what was made, make what was dropped, rename back, put labels and attributes back."""
    for change in step.of("type"):
        if change.created:
            yield Piece(Rank.DROP_TYPE, -change.after.key, sql("type/drop", type=change.after), lock="")
            continue
        was = change.before
        if change.dropped:
            yield Piece(Rank.CREATE_TYPE, was.key, sql("type/create", type=was), lock="")
        else:
            yield from _altered(step, sql, change)
        yield from belongings(step, f"TYPE {sql.name(was)}", "type", was, change.after)
        yield from _attribute_comments(sql, was, change.after)


def _attribute_comments(sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    def pairs(row: Any) -> dict[str, str]:
        return dict(zip(row.attribute_comments[::2], row.attribute_comments[1::2], strict=True)) if row is not None else {}

    old, new = pairs(was), pairs(now)
    renamed = (
        dict(zip(_names(now), _names(was), strict=False))
        if now is not None and len(now.attributes) == len(was.attributes)
        else {}
    )
    new = {renamed.get(name, name): text for name, text in new.items()}
    for name in sorted(old.keys() | (new.keys() & set(_names(was)))):
        if old.get(name) != new.get(name):
            text = literal(old[name]) if name in old else "NULL"
            yield Piece(Rank.COMMENT, 0, f"COMMENT ON COLUMN {sql.name(was)}.{name} IS {text}", lock="")


def _names(row: Any) -> list[str]:
    return [_split(attribute)[0] for attribute in row.attributes]


def _altered(step: Step, sql: Sql, change: Change) -> Iterator[Piece]:
    was, now, fields = change.before, change.after, change.fields
    if "schema" in fields:
        yield Piece(Rank.RENAME, 0, sql("type/move", type=now, to=was.schema), lock="")
    if "name" in fields:
        yield Piece(Rank.RENAME, 1, sql("type/rename", schema=was.schema, name_now=now.name, to=was.name), lock="")
    if "labels" in fields:
        yield from _labels(step, sql, was, now)
    if "attributes" in fields:
        yield from _attributes(step, sql, was, now)
    if "range" in fields and was.schema == now.schema and was.name == now.name and was.range != now.range:
        raise Irreversible(f"range type {sql.name(was)} was changed in a way that it cannot be changed back")


def _labels(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    old = dict(zip(was.label_keys, was.labels, strict=True))
    if set(now.label_keys) == set(was.label_keys):
        for key, label in zip(now.label_keys, now.labels, strict=True):
            if old[key] != label:
                yield Piece(Rank.ALTER_TYPE, 0, sql("type/rename_label", type=was, label=label, to=old[key]), lock="")
        return
    yield from _rebuild(step, sql, was, now)


def _rebuild(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    columns = using_columns(step, now)
    yield from aside.step_aside(step, sql, now, columns)
    order = Rank.ALTER_TYPE
    yield Piece(order, 0, sql("type/rename", schema=now.schema, name_now=now.name, to=aside_name(now)), lock="")
    yield Piece(order, 1, sql("type/create", type=was._replace(schema=now.schema, name=now.name)), lock="")
    dangers = frozenset({"rewrites_table", "may_fail_on_data"})
    for at, column in enumerate(columns):
        table = sql.table(column)
        if column.default is not None and not column.generated:
            yield Piece(Rank.COLUMN_TYPE, 3 * at, sql("column/drop_default", column=column), relation=table)
        text = moved(sql, column, now)
        yield Piece(Rank.COLUMN_TYPE, 3 * at + 1, text, relation=table, dangers=dangers)
        if column.default is not None and not column.generated:
            yield Piece(Rank.COLUMN_TYPE, 3 * at + 2, sql("column/set_default", column=column), relation=table)
    yield Piece(Rank.COLUMN_TYPE, 10_000, sql("type/drop", type=now._replace(name=aside_name(now))), lock="")
    # made anew, it has no privileges, owner or comment yet
    yield from belongings(step, f"TYPE {sql.name(now)}", "type", now, None)


def moved(sql: Sql, column: Any, now: Any, using: str = "") -> str:
    """What gives a column the enum that was made anew. ``using``: how, where that is not by way of its text."""
    return sql("type/move_column", column=column, type=now, array=column.type.endswith("[]"), using=using)


def rows_with(sql: Sql, column: Any, labels: Iterable[str]) -> str:
    """A query for rows with one of these labels."""
    listed = ", ".join(map(literal, labels))
    return sql("type/rows_with", column=column, labels=listed, array=column.type.endswith("[]"))


def aside_name(row: Any) -> str:
    """The name that a type has while its successor takes its place; at most 63 bytes."""
    cut = row.name.encode()[:55].decode(errors="ignore")
    return f"{cut}__after"


def using_columns(step: Step, row: Any) -> list[Any]:
    """Columns of the type, or of arrays of it, in the state in which the reverse runs."""
    tables = step.after.rows["table"]
    array = {column.type for column in step.after.rows["column"].values() if column.type_key == row.key}
    names = {f"{name}[]" for name in array} | {f"{spelled}[]" for spelled in spellings(step, row)}
    found = [
        column
        for column in step.after.rows["column"].values()
        if (column.type_key == row.key or column.type in names) and column.local and column.table_key in tables
    ]
    return sorted(found, key=lambda column: (column.schema, column.table, column.number))


def spellings(step: Step, row: Any) -> set[str]:
    """How the server writes the type's name in the state in which the reverse runs."""
    return spelled(step.after, row)


def spelled(catalog: Catalog, row: Any) -> set[str]:
    """How the server writes the type's name."""
    plain = {row.name, quoted(row.name)}
    outside = {f"{schema}.{name}" for schema in (row.schema, quoted(row.schema)) for name in plain}
    return outside | plain if row.schema == catalog.schema else outside


def _attributes(step: Step, sql: Sql, was: Any, now: Any) -> Iterator[Piece]:
    typed = [sql.name(row) for row in step.after.rows["table"].values() if row.of_type in spellings(step, now)]
    if typed:
        raise Irreversible(
            f"type {sql.name(was)} is that of table {typed[0]}: its attributes can be put back only with CASCADE"
        )
    old, new = dict(map(_split, was.attributes)), dict(map(_split, now.attributes))
    if _only_renamed(was, now):
        for before, after in zip(old, new, strict=True):
            if before != after:
                yield Piece(Rank.ALTER_TYPE, 0, sql("type/rename_attribute", type=was, name_now=after, to=before), lock="")
        return
    for attribute, type_now in new.items():
        if attribute not in old:
            yield Piece(Rank.ALTER_TYPE, 0, sql("type/drop_attribute", type=was, attribute=attribute), lock="")
        elif old[attribute] != type_now:
            yield Piece(
                Rank.ALTER_TYPE, 1, sql("type/alter_attribute", type=was, attribute=attribute, to=old[attribute]), lock=""
            )
    missing = [attribute for attribute in old if attribute not in new]
    if missing and list(old)[-len(missing) :] != missing:
        raise Irreversible(f"attribute {missing[0]} of type {sql.name(was)} would come back in another place")
    for attribute in missing:
        yield Piece(Rank.ALTER_TYPE, 2, sql("type/add_attribute", type=was, attribute=attribute, to=old[attribute]), lock="")


def _only_renamed(was: Any, now: Any) -> bool:
    old, new = list(map(_split, was.attributes)), list(map(_split, now.attributes))
    return [kind for _, kind in old] == [kind for _, kind in new] and old != new


def _split(attribute: str) -> tuple[str, str]:
    if attribute.startswith('"'):
        end = attribute.replace('""', "\0\0").index('"', 1)
        return attribute[: end + 1], attribute[end + 2 :]
    name, _, rest = attribute.partition(" ")
    return name, rest


def checks(step: Step, sql: Sql) -> Iterator[Check]:
    """Rows with a label that the old enum does not have."""
    for change in step.of("type"):
        if change.before is None or change.after is None or not change.after.labels:
            continue
        new = [label for label in change.after.labels if label not in change.before.labels]
        if not new or set(change.after.label_keys) == set(change.before.label_keys):
            continue
        for column in using_columns(step, change.after):
            yield Check(rows_with(sql, column, new), _reason(sql, column, new))
    for change in step.of("column"):
        was, now = change.before, change.after
        if was is not None and now is not None and (query := other_enum(sql, step, was, now)):
            yield Check(query, _reason(sql, now, _lacking(step, was, now)))


def other_enum(sql: Sql, step: Step, was: Any, now: Any) -> str:
    """A query for rows with what the enum that the column had before does not have; '' where it had none, or has that still."""
    lacking, had = _lacking(step, was, now), labels(step.before, was)
    if not now.local or was.type_key == now.type_key or not had:
        return ""
    if lacking:
        return rows_with(sql, now, lacking)
    if labels(step.after, now) or not _of_texts(was, now):
        return ""
    return f"SELECT 1 FROM {sql.table(now)} WHERE {unknown(quoted(now.name), had, array=now.type.endswith('[]'))}"


def unknown(value: str, labels: Iterable[str], *, array: bool) -> str:
    """SQL: an enum with these labels has no such value; null for null."""
    listed = [literal(label) for label in labels]
    if array:
        return f"NOT (array_replace({value}::text[], NULL, {listed[0]}) <@ ARRAY[{', '.join(listed)}]::text[])"
    return f"{value}::text NOT IN ({', '.join(listed)})"


def _of_texts(was: Any, now: Any) -> bool:
    return now.type.endswith("[]") == was.type.endswith("[]") and base(now).removesuffix("[]") in _TEXTS


def _lacking(step: Step, was: Any, now: Any) -> list[str]:
    if was.type_key == now.type_key or was.type.endswith("[]") != now.type.endswith("[]"):
        return []
    old, new = labels(step.before, was), labels(step.after, now)
    return [label for label in new if label not in old] if old else []


def labels(catalog: Catalog, column: Any) -> tuple[str, ...]:
    """Those of the column's enum, or of the enum of its elements; none of any other type."""
    for row in catalog.rows["type"].values():
        if row.labels and (row.key == column.type_key or column.type.removesuffix("[]") in spelled(catalog, row)):
            return tuple(row.labels)
    return ()


def _reason(sql: Sql, column: Any, new: Iterable[str]) -> str:
    what = ", ".join(map(literal, new)) or "texts"
    return f"rows of {sql.table(column)} hold {what} in {column.name}, which the enum did not have: change them first"


def losses(step: Step, sql: Sql) -> Iterator[Loss]:
    """Attributes of composite types."""
    for change in step.of("type"):
        if change.before is not None and change.after is not None and "attributes" in change.fields:
            if _only_renamed(change.before, change.after):
                continue
            yield Loss("values", f"values of changed attributes of type {sql.name(change.before)}")


FAMILY = Family("type", frozenset({"type"}), ("CREATE TYPE", "DROP TYPE", "ALTER TYPE"), reverse, checks=checks, losses=losses)
