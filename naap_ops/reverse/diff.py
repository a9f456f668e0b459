"""Two states without a migration between them: the second is seen as the first, changed, and its reverse planned as any other.

Keys (oids) name objects within one database only. So the second catalog gets the keys of the first wherever an object of the
same name could have become what it is by ALTER; whatever could only be dropped and made again gets new keys. With that, one
Step from the first to the second is what a migration's statement would be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import KINDS
from naap_ops.reverse.model import Plan, Step
from naap_ops.reverse.plan import plan
from naap_ops.reverse.render import Sql, quoted
from naap_ops.reverse.script import Script
from naap_ops.reverse.segments import Segment
from naap_ops.reverse.statement import Statement

# What no ALTER changes: where it differs, the object was dropped and made again.
_FIXED: Final[dict[str, tuple[str, ...]]] = {
    "table": ("relkind", "partition_key", "server"),
    "view": ("relkind",),
    "constraint": ("type", "definition"),
    "index": ("definition", "constraint"),
    "type": ("typtype",),
    "domain": ("base", "collation"),
    "statistics": ("definition",),
    "policy": ("permissive", "command"),
    "event_trigger": ("event", "function", "tags"),
    "routine": ("prokind",),
}
# Hashes of trees that hold oids: equal where what they are the hashes of reads the same.
_HASHES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "column": ("default_hash", ("default",)),
    "view": ("rule_hash", ("definition",)),
    "routine": ("body_hash", ("definition",)),
    "trigger": ("row_hash", ("definition",)),
    "rule": ("rule_hash", ("definition",)),
    "policy": ("tree_hash", ("using", "check", "roles", "command", "permissive")),
    "publication": ("member_hashes", ("members",)),
    "other": ("row_hash", ()),
}
_PARENTS: Final = {"constraint", "index", "trigger", "rule", "policy", "statistics", "column"}
_NEW: Final = 1 << 40  # beyond any oid
_USER_TYPES: Final = 16384  # oids below are the server's own, the same everywhere


def reverse(before: Catalog, after: Catalog, sql: Sql, *, name: str) -> Plan:
    """The reverse of the difference. Raises nothing: what has no reverse is among the plan's refusals."""
    text = f"-- {name}"
    digest = hashlib.sha256(repr(sorted((kind, key) for kind in KINDS for key in after.rows[kind])).encode()).hexdigest()
    statement = Statement(
        1, text, "", 0, len(text.encode()), 1, "DIFFERENCE", ("DIFFERENCE",), True, None, (), False, _Nothing()
    )
    script = Script(name, text, digest, (statement,), (Segment((statement,), transactional=True),))
    return plan(script, [Step(statement, before, rekeyed(before, after))], sql)


class _Descriptor:
    name = "Difference"


class _Nothing:
    """The tree of a statement that nobody wrote."""

    DESCRIPTOR = _Descriptor


# --- one database's keys for another --------------------------------------------------------------------------------


def rekeyed(before: Catalog, after: Catalog) -> Catalog:
    """``after`` with the keys that its objects would have, had they come about by changing ``before``."""
    return _Rekeying(before, after).catalog()


@dataclass
class _Rekeying:
    before: Catalog
    after: Catalog
    keys: dict[str, dict[int, int]] = field(default_factory=dict)
    last: int = _NEW

    def catalog(self) -> Catalog:
        self._match()
        rows: dict[str, dict[int, Any]] = {}
        for name in KINDS:
            made = [self._row(name, row) for row in self.after.rows[name].values()]
            rows[name] = {row.key: row for row in made}
        return Catalog(self.after.major, self.before.schema, rows, user=self.before.user)

    # --- matching --------------------------------------------------------------------------------------------------

    def _match(self) -> None:
        """Same names first; then those go that hang on something which is not the same, until no more go."""
        same = {name: self._same_names(name) for name in KINDS}
        for name in ("constraint", "index"):
            same[name] |= self._same_but_for_the_name(name, same[name])
        while sum(self._loosened(same, name, matches) for name, matches in same.items()):
            pass  # all kinds in each round
        for name in KINDS:
            if name != "column":
                self.keys[name] = {row.key: same[name].get(row.key) or self._new() for row in self.after.rows[name].values()}
        self.keys["column"] = dict(self._columns(same["column"]))

    def _same_names(self, name: str) -> dict[int, int]:
        kind = KINDS[name]
        there = {kind.identify(row): row for row in self.before.rows[name].values()}
        found = {}
        for row in self.after.rows[name].values():
            old = there.get(kind.identify(row))
            if old is not None and _alterable(name, old, row):
                found[row.key] = old.key
        return found

    def _same_but_for_the_name(self, name: str, matches: dict[int, int]) -> dict[int, int]:
        """Parts of a table hold nothing of their own: one that went while its like came was renamed, to the same effect, and
        what hangs on it (a foreign key on a key's index) does not stand in the way of that."""
        taken = set(matches.values())
        free: dict[object, list[int]] = {}
        for old in sorted(self.before.rows[name].values(), key=lambda each: each.name):
            if old.key not in taken:
                free.setdefault(_nameless(name, old), []).append(old.key)
        found = {}
        for row in sorted(self.after.rows[name].values(), key=lambda each: each.name):
            like = free.get(_nameless(name, row)) if row.key not in matches else None
            if like:
                found[row.key] = like.pop(0)
        return found

    def _loosened(self, same: dict[str, dict[int, int]], name: str, matches: dict[int, int]) -> bool:
        loose = [key for key in matches if self._hangs_loose(same, name, self.after.rows[name][key])]
        for key in loose:
            del matches[key]
        return bool(loose)

    def _hangs_loose(self, same: dict[str, dict[int, int]], name: str, row: Any) -> bool:
        relations = {**same["table"], **same["view"], **same["sequence"]}
        if name in _PARENTS and row.table_key not in relations:
            return True
        if name == "constraint":
            return (
                bool(row.index_key) and row.index_key in self.after.rows["index"] and row.index_key not in same["index"]
            ) or (bool(row.referenced_key) and row.referenced_key not in relations)
        if name == "index" and row.constraint:
            own = [each for each in self.after.rows["constraint"].values() if each.index_key == row.key and each.type != "f"]
            return any(each.key not in same["constraint"] for each in own)
        if name == "sequence":
            return row.column_key is not None and row.column_key not in same["column"]  # it went with that, and came with it
        if name == "view":
            return any(key in self.after.rows["table"] and key not in relations for key in row.uses) or any(
                self._reshaped(key, relations) for key in row.uses
            )
        return False

    def _reshaped(self, key: int, relations: dict[int, int]) -> bool:
        """Whether columns of a relation that a view reads went or have another type: the view had to be made again."""
        old = relations.get(key)
        if old is None:
            return key in self.after.rows["view"]
        if key not in self.after.rows["table"]:
            return False
        was = {row.name: row.type for row in self.before.children("column", "table_key", old)}
        now = {row.name: row.type for row in self.after.children("column", "table_key", key)}
        return any(now.get(name) != type_ for name, type_ in was.items())

    def _columns(self, same: dict[int, int]) -> Iterator[tuple[int, int]]:
        """A column's key is made of its table's and its number: new ones in an old table come after all that it had."""
        used: dict[int, int] = {}
        for row in self.before.rows["column"].values():
            used[row.table_key] = max(used.get(row.table_key, 0), row.number)
        for row in sorted(self.after.rows["column"].values(), key=lambda each: (each.table_key, each.number)):
            if row.key in same:
                yield row.key, same[row.key]
                continue
            table = self.keys["table"][row.table_key]
            used[table] = used.get(table, 0) + 1
            yield row.key, (table << 16) | used[table]

    def _new(self) -> int:
        self.last += 1
        return self.last

    # --- rewriting -------------------------------------------------------------------------------------------------

    def _row(self, name: str, row: Any) -> Any:
        fields = {field: change(row) for field, change in self._rules(name, row).items()}
        fields["key"] = self.keys[name][row.key]
        old = self.before.rows[name].get(fields["key"])
        made = row._replace(**fields)
        return made if old is None else self._like(name, old, made)

    def _rules(self, name: str, row: Any) -> dict[str, Callable[[Any], Any]]:
        rules: dict[str, Callable[[Any], Any]] = {}
        present = set(row._fields)
        if "table_key" in present:
            rules["table_key"] = lambda row: self._relation(row.table_key)
        if "numbers" in present:
            rules["numbers"] = lambda row: [self._number(row.table_key, number) for number in row.numbers]
        if name == "table":
            rules["parent_keys"] = lambda row: [self._relation(key) for key in row.parent_keys]
        if name == "column":
            rules["number"] = lambda row: self.keys["column"][row.key] & 0xFFFF
            rules["type_key"] = lambda row: self._type(row.type_key)
        if name == "constraint":
            rules["index_key"] = lambda row: self.keys["index"].get(row.index_key, row.index_key)
            rules["referenced_key"] = lambda row: self._relation(row.referenced_key)
        if name in ("constraint", "index", "trigger"):
            rules["parent_key"] = lambda row: self.keys[name].get(row.parent_key, row.parent_key)
        if name == "sequence":
            rules["column_key"] = lambda row: self.keys["column"].get(row.column_key, row.column_key)
        if name == "view":
            rules["uses"] = lambda row: [self._relation(key) for key in row.uses]
        if name == "publication":
            rules["member_keys"] = lambda row: [self.keys["schema"].get(key, self._relation(key)) for key in row.member_keys]
        return rules

    def _relation(self, key: int) -> int:
        for name in ("table", "view", "sequence"):
            if key in self.keys[name]:
                return self.keys[name][key]
        return key

    def _type(self, key: int) -> int:
        for name in ("type", "domain"):
            if key in self.keys[name]:
                return self.keys[name][key]
        return key if key < _USER_TYPES else -key

    def _number(self, table: int, number: int) -> int:
        key = self.keys["column"].get((table << 16) | number)
        return number if key is None else key & 0xFFFF

    def _like(self, name: str, old: Any, row: Any) -> Any:
        """Equal where it reads the same: what differs only because another database numbers its objects otherwise."""
        same: dict[str, Any] = {}
        if name in _HASHES:
            hashed, texts = _HASHES[name]
            if all(getattr(old, text) == getattr(row, text) for text in texts):
                same[hashed] = getattr(old, hashed)
        if name == "column" and old.type == row.type:
            same |= {"type_key": old.type_key, "modifier": old.modifier}
        if name == "type":
            keys = dict(zip(old.labels, old.label_keys, strict=True))
            same["label_keys"] = [keys.get(label) or self._new() for label in row.labels]
        if name == "publication" and old.members == row.members:
            same["member_keys"] = old.member_keys
        return row._replace(**same) if same else row


def _alterable(name: str, old: Any, row: Any) -> bool:
    if any(getattr(old, fixed) != getattr(row, fixed) for fixed in _FIXED.get(name, ())):
        return False
    if name == "routine":  # neither its result nor the names of its arguments can be replaced
        return bool(old.definition.partition(" LANGUAGE ")[0] == row.definition.partition(" LANGUAGE ")[0])
    return True


def _nameless(name: str, row: Any) -> object:
    """All that makes a constraint or an index what it is, but its name."""
    definition = row.definition
    if name == "index":
        for spelled in (row.name, quoted(row.name)):
            definition = definition.replace(f" INDEX {spelled} ON ", " INDEX ON ", 1)
        return row.schema, row.table, definition, row.constraint
    return row.schema, row.table, definition, row.type


# --- what may have been a rename ------------------------------------------------------------------------------------


def renames(before: Catalog, after: Catalog) -> list[str]:
    """Tables and columns that went while others of the same shape came: perhaps renamed. Said, never assumed."""
    after = rekeyed(before, after)
    gone = [row for key, row in before.rows["table"].items() if key not in after.rows["table"]]
    came = [row for key, row in after.rows["table"].items() if key not in before.rows["table"]]
    found = [
        f"table {_of(new)} may be {_of(old)}, renamed; its rows stay with: ALTER TABLE {_of(new)} RENAME TO {quoted(old.name)}"
        for old in gone
        for new in came
        if old.schema == new.schema and _shape(before, old.key) == _shape(after, new.key)
    ]
    for key in before.rows["table"].keys() & after.rows["table"].keys():
        was = [row for row in before.children("column", "table_key", key) if row.key not in after.rows["column"]]
        now = [row for row in after.children("column", "table_key", key) if row.key not in before.rows["column"]]
        table = _of(before.rows["table"][key])
        found += [
            f"column {quoted(new.name)} of {table} may be {quoted(old.name)}, renamed; its values stay with: "
            f"ALTER TABLE {table} RENAME COLUMN {quoted(new.name)} TO {quoted(old.name)}"
            for old in was
            for new in now
            if (old.type, old.not_null, old.default) == (new.type, new.not_null, new.default)
        ]
    return sorted(found)


def _of(row: Any) -> str:
    return f"{quoted(row.schema)}.{quoted(row.name)}"


def _shape(catalog: Catalog, key: int) -> list[tuple[str, str, bool]]:
    return sorted((row.name, row.type, row.not_null) for row in catalog.children("column", "table_key", key))
