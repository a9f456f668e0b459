"""What a migration's statements can do to a database that is in use: by a word each, so that a danger can be allowed by name.

Told from the parsed statements alone, so it is what may happen, not what will: sizes, types and rows are not known here. Tables
that the script creates itself are empty and nobody waits for them; their locks, builds and checks are no danger.
Locks: PostgreSQL documentation, "Explicit Locking" and the notes of each command; rewrites: those of ALTER TABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse.relations import Relation, messages
from naap_ops.reverse.script import Script, Statement

WORDS: Final = {
    "deletes_data": "rows or values are gone after it",
    "locks_table": "nobody can read or write the table meanwhile (ACCESS EXCLUSIVE)",
    "locks_writes": "nobody can write to the table meanwhile",
    "rewrites_table": "the whole table may be written anew",
    "may_fail_on_data": "rows that are there can make it fail",
    "index_build": "an index is built, which takes as long as the table is large",
    "not_transactional": "it cannot run in a transaction: a failure leaves half of it",
    "loses_privileges": "what was granted on it goes with it",
    "column_order": "the column can only come back as the last one",
    "enum_residue": "a label of an enum cannot be dropped again",
    "opaque": "what it does is not in its text",
}
_EVERYWHERE: Final = frozenset({"not_transactional", "opaque", "enum_residue"})  # dangers that do not depend on a table's rows

_NO_STRONG_LOCK: Final = (
    "VALIDATE CONSTRAINT",
    "ALTER COLUMN SET STATISTICS",
    "ALTER COLUMN SET OPTIONS",
    "ALTER COLUMN RESET OPTIONS",
    "CLUSTER ON",
    "SET WITHOUT CLUSTER",
    "SET OPTIONS",
    "RESET OPTIONS",
    "ATTACH PARTITION",
    "DETACH PARTITION FINALIZE",
)
_WRITE_LOCK: Final = (
    "ADD CONSTRAINT FOREIGN KEY",
    "ENABLE TRIGGER",
    "DISABLE TRIGGER",
    "ENABLE REPLICA TRIGGER",
    "ENABLE ALWAYS TRIGGER",
)
_DROPS_LOCKING: Final = frozenset(
    {"DROP INDEX", "DROP TRIGGER", "DROP POLICY", "DROP RULE", "DROP VIEW", "DROP MATERIALIZED VIEW"}
)
_WITH_PRIVILEGES: Final = frozenset(
    f"DROP {what}"
    for what in (
        "TABLE",
        "VIEW",
        "MATERIALIZED VIEW",
        "FOREIGN TABLE",
        "SEQUENCE",
        "FUNCTION",
        "PROCEDURE",
        "ROUTINE",
        "AGGREGATE",
        "SCHEMA",
        "TYPE",
        "DOMAIN",
        "LANGUAGE",
        "EXTENSION",
        "OWNED",
    )
)
_BY_KIND: Final[dict[str, tuple[str, ...]]] = {
    "ALTER TABLE ALTER COLUMN SET NOT NULL": ("may_fail_on_data",),
    "ALTER TABLE ALTER COLUMN TYPE": ("rewrites_table", "may_fail_on_data"),
    "ALTER TABLE ATTACH PARTITION": ("may_fail_on_data",),
    "ALTER TABLE DROP COLUMN": ("deletes_data", "column_order"),
    "ALTER TABLE SET ACCESS METHOD": ("rewrites_table",),
    "ALTER TABLE SET LOGGED": ("rewrites_table",),
    "ALTER TABLE SET TABLESPACE": ("rewrites_table",),
    "ALTER TABLE SET UNLOGGED": ("rewrites_table",),
    "ALTER TABLE VALIDATE CONSTRAINT": ("may_fail_on_data",),
    "ALTER TYPE ADD VALUE": ("enum_residue",),
    "CLUSTER": ("locks_table", "rewrites_table"),
    "CREATE POLICY": ("locks_table",),
    "CREATE RULE": ("locks_table",),
    "CREATE TRIGGER": ("locks_writes",),
    "DELETE": ("deletes_data",),
    "DROP SCHEMA": ("deletes_data",),
    "DROP SEQUENCE": ("deletes_data",),
    "DROP TABLE": ("deletes_data", "locks_table"),
    "REFRESH MATERIALIZED VIEW": ("locks_table",),
    "REINDEX": ("index_build", "locks_writes"),
    "TRUNCATE TABLE": ("deletes_data", "locks_table"),
}
_STABLE_DEFAULTS: Final = frozenset({"now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "timezone"})
_SERIALS: Final = frozenset({"serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"})


@dataclass(frozen=True)
class Danger:
    statement: Statement
    word: str
    """One of WORDS."""
    reason: str


def dangers(script: Script) -> list[Danger]:
    """The dangers of a script's statements, each word once per statement, in the order of the statements."""
    made: set[Relation] = set()
    columns: set[tuple[Relation, str]] = set()
    found: list[Danger] = []
    for statement in script.statements:
        words = dict.fromkeys(_words(statement, made, columns))
        found += [Danger(statement, word, f"{_called(statement)}: {WORDS[word]}") for word in words]
        _remember(statement, made, columns)
    return found


def _called(statement: Statement) -> str:
    return statement.kinds[0] if len(set(statement.kinds)) == 1 else statement.tag


def _remember(statement: Statement, made: set[Relation], columns: set[tuple[Relation, str]]) -> None:
    """Tables and columns that are the script's own."""
    if statement.tag in ("CREATE TABLE", "CREATE TABLE AS", "SELECT INTO") and not getattr(
        statement.node, "if_not_exists", False
    ):
        made.update(statement.relations[:1])
    elif statement.kinds == ("ALTER TABLE RENAME TO",) and statement.relations[0] in made:
        made.add((statement.relations[0][0], statement.node.newname))
    elif statement.tag == "ALTER TABLE" and "ALTER TABLE ADD COLUMN" in statement.kinds:
        for each in _commands(statement):
            if each.subtype == grammar.AT_AddColumn:
                columns.add((statement.relations[0], getattr(each, "def").column_def.colname))


def _words(statement: Statement, made: set[Relation], columns: set[tuple[Relation, str]]) -> Iterator[str]:
    every = [*_of_any(statement), *_of_table(statement)]
    if statement.tag == "UPDATE" and not _only_new(statement, columns):
        every.append("deletes_data")
    own = bool(statement.relations) and statement.relations[0] in made
    for word in every:
        if word in _EVERYWHERE or not own:
            yield word
    if _adds_foreign_key(statement) and any(each not in made for each in statement.relations[own or _creates(statement) :]):
        yield "locks_writes"


def _of_any(statement: Statement) -> Iterator[str]:
    if not statement.transactional:
        yield "not_transactional"
    if statement.opaque:
        yield "opaque"
    if statement.tag in _WITH_PRIVILEGES or statement.tag == "REVOKE":
        yield "loses_privileges"
    if statement.tag in _DROPS_LOCKING and statement.transactional:
        yield "locks_table"
    for kind in statement.kinds:
        if kind != "REINDEX" or statement.transactional:
            yield from _BY_KIND.get(kind, ())
    looked_at = _BY_NODE.get(statement.tag)
    if looked_at is not None:
        yield from looked_at(statement)


def _of_table(statement: Statement) -> Iterator[str]:
    """ALTER TABLE: the lock of each subcommand, and what adding a column or a constraint means."""
    if statement.tag != "ALTER TABLE":
        return
    for kind in statement.kinds:
        words = kind.removeprefix("ALTER TABLE ")
        if words.startswith(_WRITE_LOCK):
            yield "locks_writes"
        elif not words.startswith(_NO_STRONG_LOCK) and statement.transactional:
            yield "locks_table"
    for each in _commands(statement):
        definition = getattr(each, "def")
        if each.subtype == grammar.AT_AddColumn:
            yield from _added_column(definition.column_def)
        elif each.subtype == grammar.AT_AddConstraint:
            yield from _added_constraint(definition.constraint)


def _commands(statement: Statement) -> list[Any]:
    node = statement.node
    return [each.alter_table_cmd for each in node.cmds] if node.DESCRIPTOR.name == "AlterTableStmt" else []


def _added_constraint(constraint: Any) -> Iterator[str]:
    if not constraint.skip_validation and not constraint.indexname:
        yield "may_fail_on_data"
    built = (grammar.CONSTR_PRIMARY, grammar.CONSTR_UNIQUE, grammar.CONSTR_EXCLUSION)
    if constraint.contype in built and not constraint.indexname:
        yield "index_build"


def _added_column(column: Any) -> Iterator[str]:
    parts = {each.constraint.contype: each.constraint for each in column.constraints}
    serial = column.type_name.names[-1].string.sval in _SERIALS if column.type_name.names else False
    filled = serial or parts.keys() & {grammar.CONSTR_IDENTITY, grammar.CONSTR_GENERATED}
    default = parts.get(grammar.CONSTR_DEFAULT)
    if default is None and not filled and parts.keys() & {grammar.CONSTR_NOTNULL, grammar.CONSTR_PRIMARY}:
        yield "may_fail_on_data"
    if filled or (default is not None and _volatile(default)):
        yield "rewrites_table"
    if parts.keys() & {grammar.CONSTR_UNIQUE, grammar.CONSTR_PRIMARY}:
        yield "index_build"


def _volatile(default: Any) -> bool:
    """Whether a default may be another value in each row; functions that are not known are taken to be."""
    calls = (node for node in messages(default) if node.DESCRIPTOR.name == "FuncCall")
    return any(call.funcname[-1].string.sval not in _STABLE_DEFAULTS for call in calls)


def _only_new(statement: Statement, columns: set[tuple[Relation, str]]) -> bool:
    """An UPDATE that only fills columns the script itself has added overwrites nothing."""
    node = statement.node
    target = (node.relation.schemaname or None, node.relation.relname)
    return all((target, each.res_target.name) in columns for each in node.target_list)


def _creates(statement: Statement) -> bool:
    return statement.tag == "CREATE TABLE"


def _adds_foreign_key(statement: Statement) -> bool:
    """The lock of a foreign key is taken on both tables."""
    if _creates(statement) or "ALTER TABLE ADD COLUMN" in statement.kinds:
        return any(n.DESCRIPTOR.name == "Constraint" and n.contype == grammar.CONSTR_FOREIGN for n in messages(statement.node))
    return "ALTER TABLE ADD CONSTRAINT FOREIGN KEY" in statement.kinds


def _index(statement: Statement) -> Iterator[str]:
    yield "index_build"
    if statement.node.unique:
        yield "may_fail_on_data"
    if statement.transactional:
        yield "locks_writes"


def _vacuum(statement: Statement) -> Iterator[str]:
    if any(each.def_elem.defname == "full" for each in statement.node.options):
        yield from ("locks_table", "rewrites_table")


def _lock(statement: Statement) -> Iterator[str]:
    share, access_exclusive = 5, 8  # numbers of lock modes: src/include/storage/lockdefs.h; 4 is SHARE UPDATE EXCLUSIVE
    if statement.node.mode >= share:
        yield "locks_table" if statement.node.mode == access_exclusive else "locks_writes"


def _domain(statement: Statement) -> Iterator[str]:
    add_constraint, set_not_null = "C", "O"  # AlterDomainStmt.subtype
    if statement.node.DESCRIPTOR.name == "AlterDomainStmt" and statement.node.subtype in (add_constraint, set_not_null):
        yield "may_fail_on_data"


def _merge(statement: Statement) -> Iterator[str]:
    changing = (grammar.CMD_UPDATE, grammar.CMD_DELETE)
    if any(each.merge_when_clause.command_type in changing for each in statement.node.merge_when_clauses):
        yield "deletes_data"


_BY_NODE: Final[dict[str, Callable[[Statement], Iterator[str]]]] = {
    "ALTER DOMAIN": _domain,
    "CREATE INDEX": _index,
    "LOCK TABLE": _lock,
    "MERGE": _merge,
    "VACUUM": _vacuum,
}
