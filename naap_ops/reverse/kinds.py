"""What a statement is called: the server's command tag, and finer kinds by which tables of families are keyed.

The tags are those of PostgreSQL's ``CreateCommandTag`` (src/backend/tcop/utility.c). A kind begins with the tag and says
more where one tag covers many things: ``ALTER TABLE ADD COLUMN``, ``CREATE TYPE ENUM``, ``DROP INDEX CONCURRENTLY``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal

from postgast import pg_query_pb2 as grammar

Control = Literal["begin", "commit", "rollback"]

_OBJECTS: Final = {
    "ATTRIBUTE": "TYPE",
    "COLUMN": "TABLE",
    "DOMCONSTRAINT": "DOMAIN",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "LARGEOBJECT": "LARGE OBJECT",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "TABLE",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
}
_SUBCOMMANDS: Final = {
    "AT_AddIndexConstraint": "ADD CONSTRAINT USING INDEX",
    "AT_AlterColumnType": "ALTER COLUMN TYPE",
    "AT_AddInherit": "INHERIT",
    "AT_DropInherit": "NO INHERIT",
    "AT_AddOf": "OF",
    "AT_DropOf": "NOT OF",
    "AT_ChangeOwner": "OWNER TO",
    "AT_DropCluster": "SET WITHOUT CLUSTER",
    "AT_DropOids": "SET WITHOUT OIDS",
    "AT_SetUnLogged": "SET UNLOGGED",
    "AT_SetTableSpace": "SET TABLESPACE",
    "AT_SetRelOptions": "SET OPTIONS",
    "AT_ResetRelOptions": "RESET OPTIONS",
    "AT_SetOptions": "ALTER COLUMN SET OPTIONS",
    "AT_ResetOptions": "ALTER COLUMN RESET OPTIONS",
    "AT_SetStatistics": "ALTER COLUMN SET STATISTICS",
    "AT_SetStorage": "ALTER COLUMN SET STORAGE",
    "AT_SetCompression": "ALTER COLUMN SET COMPRESSION",
    "AT_EnableRowSecurity": "ENABLE ROW LEVEL SECURITY",
    "AT_DisableRowSecurity": "DISABLE ROW LEVEL SECURITY",
    "AT_ForceRowSecurity": "FORCE ROW LEVEL SECURITY",
    "AT_NoForceRowSecurity": "NO FORCE ROW LEVEL SECURITY",
    "AT_SetIdentity": "ALTER COLUMN SET IDENTITY",
    "AT_GenericOptions": "OPTIONS",
}
_CONSTRAINTS: Final = {
    grammar.CONSTR_CHECK: "CHECK",
    grammar.CONSTR_PRIMARY: "PRIMARY KEY",
    grammar.CONSTR_UNIQUE: "UNIQUE",
    grammar.CONSTR_EXCLUSION: "EXCLUDE",
    grammar.CONSTR_FOREIGN: "FOREIGN KEY",
    grammar.CONSTR_NOTNULL: "NOT NULL",
}
_TRANSACTION: Final = {
    "TRANS_STMT_BEGIN": "BEGIN",
    "TRANS_STMT_START": "START TRANSACTION",
    "TRANS_STMT_COMMIT": "COMMIT",
    "TRANS_STMT_ROLLBACK": "ROLLBACK",
    "TRANS_STMT_SAVEPOINT": "SAVEPOINT",
    "TRANS_STMT_RELEASE": "RELEASE",
    "TRANS_STMT_ROLLBACK_TO": "ROLLBACK",
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}
_CONTROL: Final[dict[str, Control]] = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_PREPARE": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
}
# Tags that do not follow from the name of the node.
_NAMED: Final = {
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
    "AlterDatabaseSetStmt": "ALTER DATABASE",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES",
    "AlterEnumStmt": "ALTER TYPE",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "AlterExtensionContentsStmt": "ALTER EXTENSION",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER",
    "AlterForeignServerStmt": "ALTER SERVER",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "AlterStatsStmt": "ALTER STATISTICS",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE",
    "CheckPointStmt": "CHECKPOINT",
    "ClosePortalStmt": "CLOSE CURSOR",
    "CompositeTypeStmt": "CREATE TYPE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CreateAmStmt": "CREATE ACCESS METHOD",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreateForeignServerStmt": "CREATE SERVER",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreateRangeStmt": "CREATE TYPE",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "CreateStatsStmt": "CREATE STATISTICS",
    "CreateStmt": "CREATE TABLE",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreatedbStmt": "CREATE DATABASE",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "DropdbStmt": "DROP DATABASE",
    "IndexStmt": "CREATE INDEX",
    "LockStmt": "LOCK TABLE",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
    "TruncateStmt": "TRUNCATE TABLE",
    "VariableShowStmt": "SHOW",
    "ViewStmt": "CREATE VIEW",
}


def _words(camel: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", camel).upper()


def object_word(kind: int) -> str:
    """The word of an ``ObjectType`` as it stands in SQL: ``OBJECT_MATVIEW`` is ``MATERIALIZED VIEW``."""
    name = grammar.ObjectType.Name(kind).removeprefix("OBJECT_")
    return _OBJECTS.get(name) or name.replace("_", " ")


def _create_function(node: Any) -> str:
    return "CREATE PROCEDURE" if node.is_procedure else "CREATE FUNCTION"


def _select(node: Any) -> str:
    return "SELECT INTO" if node.HasField("into_clause") else "SELECT"


def _table_as(node: Any) -> str:
    return (
        "SELECT INTO"
        if node.is_select_into
        else f"CREATE {object_word(node.objtype)}" + (" AS" if node.objtype == grammar.OBJECT_TABLE else "")
    )


def _renamed(node: Any) -> str:
    inner = node.relation_type if node.rename_type in (grammar.OBJECT_COLUMN, grammar.OBJECT_ATTRIBUTE) else node.rename_type
    on_table = (grammar.OBJECT_RULE, grammar.OBJECT_TRIGGER, grammar.OBJECT_POLICY)
    return f"ALTER {object_word(inner)}" if node.rename_type not in on_table else f"ALTER {object_word(node.rename_type)}"


_COMPUTED: Final[dict[str, Callable[[Any], str]]] = {
    "AlterFunctionStmt": lambda n: f"ALTER {object_word(n.objtype)}",
    "AlterObjectDependsStmt": lambda n: f"ALTER {object_word(n.object_type)}",
    "AlterObjectSchemaStmt": lambda n: f"ALTER {object_word(n.object_type)}",
    "AlterOwnerStmt": lambda n: f"ALTER {object_word(n.object_type)}",
    "AlterTableMoveAllStmt": lambda n: f"ALTER {object_word(n.objtype)}",
    "AlterTableStmt": lambda n: f"ALTER {object_word(n.objtype)}",
    "CreateFunctionStmt": _create_function,
    "CreateTableAsStmt": _table_as,
    "DefineStmt": lambda n: f"CREATE {object_word(n.kind)}",
    "DiscardStmt": lambda n: "DISCARD " + grammar.DiscardMode.Name(n.target).removeprefix("DISCARD_"),
    "DropStmt": lambda n: f"DROP {object_word(n.remove_type)}",
    "GrantRoleStmt": lambda n: "GRANT ROLE" if n.is_grant else "REVOKE ROLE",
    "GrantStmt": lambda n: "GRANT" if n.is_grant else "REVOKE",
    "RenameStmt": _renamed,
    "SelectStmt": _select,
    "TransactionStmt": lambda n: _TRANSACTION[grammar.TransactionStmtKind.Name(n.kind)],
    "VacuumStmt": lambda n: "VACUUM" if n.is_vacuumcmd else "ANALYZE",
    "VariableSetStmt": lambda n: "RESET" if n.kind in (grammar.VAR_RESET, grammar.VAR_RESET_ALL) else "SET",
}


def command_tag(node: Any) -> str:
    """The server's command tag of a statement's node."""
    name = node.DESCRIPTOR.name
    if name in _COMPUTED:
        return _COMPUTED[name](node)
    return _NAMED.get(name) or _words(name.removesuffix("Stmt"))


def subcommand(node: Any) -> str:
    """The words of one ``AlterTableCmd``: ``ADD COLUMN``, ``ALTER COLUMN SET DEFAULT``, ``ADD CONSTRAINT FOREIGN KEY``."""
    name = grammar.AlterTableType.Name(node.subtype)
    if name == "AT_ColumnDefault":
        return "ALTER COLUMN SET DEFAULT" if node.HasField("def") else "ALTER COLUMN DROP DEFAULT"
    if name == "AT_AddConstraint":
        return f"ADD CONSTRAINT {_CONSTRAINTS.get(getattr(node, 'def').constraint.contype, '')}".rstrip()
    words = _SUBCOMMANDS.get(name) or _words(name.removeprefix("AT_")).replace("TRIG", "TRIGGER")
    on_column = ("SET NOT NULL", "DROP NOT NULL", "SET EXPRESSION", "DROP EXPRESSION", "ADD IDENTITY", "DROP IDENTITY")
    return f"ALTER COLUMN {words}" if words in on_column else words


def _renaming(node: Any) -> str:
    if node.rename_type in (grammar.OBJECT_TABCONSTRAINT, grammar.OBJECT_DOMCONSTRAINT):
        return "RENAME CONSTRAINT"
    if node.rename_type in (grammar.OBJECT_COLUMN, grammar.OBJECT_ATTRIBUTE):
        return f"RENAME {grammar.ObjectType.Name(node.rename_type).removeprefix('OBJECT_')}"
    return "RENAME TO"


def _create_table(node: Any) -> str:
    return "PARTITION OF" if node.HasField("partbound") else ""


def _altered_enum(node: Any) -> str:
    return "RENAME VALUE" if node.old_val else "ADD VALUE"


_FINER: Final[dict[str, Callable[[Any], str]]] = {
    "AlterEnumStmt": _altered_enum,
    "AlterObjectSchemaStmt": lambda _: "SET SCHEMA",
    "AlterOwnerStmt": lambda _: "OWNER TO",
    "CommentStmt": lambda n: "ON " + _object_name(n.objtype),
    "CompositeTypeStmt": lambda _: "COMPOSITE",
    "CreateEnumStmt": lambda _: "ENUM",
    "CreateRangeStmt": lambda _: "RANGE",
    "CreateStmt": _create_table,
    "DropStmt": lambda n: "CONCURRENTLY" if n.concurrent else "",
    "GrantStmt": lambda n: "ON " + _object_name(n.objtype),
    "IndexStmt": lambda n: "CONCURRENTLY" if n.concurrent else "",
    "RenameStmt": _renaming,
    "RefreshMatViewStmt": lambda n: "CONCURRENTLY" if n.concurrent else "",
    "TransactionStmt": lambda n: "TO" if n.kind == grammar.TRANS_STMT_ROLLBACK_TO else "",
}


def _object_name(kind: int) -> str:
    """As :func:`object_word`, but a column, a constraint is called so."""
    name = grammar.ObjectType.Name(kind).removeprefix("OBJECT_")
    inside = {"COLUMN": "COLUMN", "TABCONSTRAINT": "CONSTRAINT", "DOMCONSTRAINT": "CONSTRAINT"}
    return inside.get(name) or object_word(kind)


def kinds_of(node: Any, tag: str) -> tuple[str, ...]:
    """The finer kinds of a statement: one for each subcommand of ALTER TABLE, else exactly one."""
    name = node.DESCRIPTOR.name
    if name == "AlterTableStmt":
        return tuple(f"{tag} {subcommand(each.alter_table_cmd)}" for each in node.cmds)
    finer = _FINER[name](node) if name in _FINER else ""
    return (f"{tag} {finer}".rstrip(),)


def control_of(node: Any) -> Control | None:
    """What the statement does to the transaction it stands in, if anything."""
    if node.DESCRIPTOR.name != "TransactionStmt":
        return None
    return _CONTROL.get(grammar.TransactionStmtKind.Name(node.kind))
