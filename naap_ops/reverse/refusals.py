"""What must not run on a shadow: it reaches beyond (databases, roles, files, the network), or Prisma cannot run it.

Everything here is told from the text before anything runs. Bodies of DO and of functions are searched for words, as their text
is not in the tree. That finds what is written plainly; it is no sandbox against a text that hides what it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from postgast import pg_query_pb2 as grammar

from naap_ops.reverse.kinds import object_word
from naap_ops.reverse.relations import messages
from naap_ops.reverse.script import Script, Statement

_CLUSTER: Final = "it changes the whole server, not one database"
_OUTSIDE: Final = "it reaches files or programs of the server's machine"
_NETWORK: Final = "it reaches another server"
_IDENTITY: Final = "it goes on as another role, whose rights the shadow need not have"
_BY_HAND: Final = "Run it by hand, or by whatever sets up the server, and take it out of the migration."
_DATA: Final = "Write the rows as INSERT."
_OWN_ROLE: Final = "Take it out; run the migration as the role that should own the objects."
_TRUSTED: Final = frozenset({"sql", "plpgsql", "plperl", "pltcl", "plv8", "plcoffee", "plls", "pljs", "plrust"})

_REFUSED_TAGS: Final = {
    **{
        f"{verb} {what}": (_CLUSTER, _BY_HAND)
        for verb in ("CREATE", "ALTER", "DROP")
        for what in ("DATABASE", "ROLE", "TABLESPACE")
    },
    **dict.fromkeys(("ALTER SYSTEM", "GRANT ROLE", "REVOKE ROLE", "DROP OWNED", "REASSIGN OWNED"), (_CLUSTER, _BY_HAND)),
    **{
        f"{verb} {what}": (_NETWORK, _BY_HAND)
        for verb in ("CREATE", "ALTER", "DROP")
        for what in ("SUBSCRIPTION", "SERVER", "USER MAPPING")
        if (verb, what) != ("DROP", "SERVER")
    },
    "IMPORT FOREIGN SCHEMA": (_NETWORK, _BY_HAND),
    "LOAD": (_OUTSIDE, _BY_HAND),
    "PREPARE TRANSACTION": ("the transaction would outlive the shadow's session", "Use COMMIT."),
}
_SHARED_OBJECTS: Final = frozenset(
    {grammar.OBJECT_DATABASE, grammar.OBJECT_ROLE, grammar.OBJECT_TABLESPACE, grammar.OBJECT_PARAMETER_ACL}
)
_FUNCTIONS: Final = (
    (
        re.compile(
            r"dblink\w*|postgres_fdw_\w+|http(?:_\w+)?|net_http_\w+|pg_create_\w*replication_slot|pg_drop_replication_slot"
        ),
        _NETWORK,
    ),
    (
        re.compile(r"lo_import|lo_export|pg_read_(?:binary_)?file|pg_file_\w+|pg_stat_file|pg_ls_\w*dir\w*|pg_write\w*"),
        _OUTSIDE,
    ),
    (
        re.compile(
            r"pg_(?:terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_switch_wal|pg_promote|schedule_in_database"
        ),
        _CLUSTER,
    ),
)
_ANY_FUNCTION: Final = re.compile(
    "|".join(rf"(?:{names.pattern})" for names, _ in _FUNCTIONS) + '|set_config|u&"', re.IGNORECASE
)
_COMMENTS: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BEGINS: Final = r"(?:\A|[;'$>]|\b(?:begin|then|else|loop|execute)\b)\s*"
_BODY_WORDS: Final = (
    (
        re.compile(_BEGINS + r"(?:create|alter|drop)\s+(?:database|role|user(?!\s+mapping)|group|tablespace)\b", re.IGNORECASE),
        _CLUSTER,
    ),
    (re.compile(_BEGINS + r"(?:alter\s+system|(?:drop|reassign)\s+owned)\b", re.IGNORECASE), _CLUSTER),
    (
        re.compile(
            _BEGINS + r"(?:(?:create|alter|drop)\s+(?:subscription|server|user\s+mapping)|import\s+foreign)\b", re.IGNORECASE
        ),
        _NETWORK,
    ),
    (re.compile(_BEGINS + r"(?:load\s+'|create\s+(?:\w+\s+)*language\b)", re.IGNORECASE), _OUTSIDE),
    (re.compile(r"\bcopy\b[^;]*?\b(?:from|to)\s+(?:program\b|E?'|\$|%)", re.IGNORECASE), _OUTSIDE),
    (re.compile(r"\blanguage\s+['\"]?(?:c|internal|pl\w+u)\b", re.IGNORECASE), _OUTSIDE),
    (
        re.compile(_BEGINS + r"set\s+(?:local\s+|session\s+)?(?:role\b|session\s+authorization\b)", re.IGNORECASE),
        _IDENTITY,
    ),
    *((re.compile(rf"\b(?:{names.pattern})\"?\s*\(", re.IGNORECASE), why) for names, why in _FUNCTIONS),
)


@dataclass(frozen=True)
class Refusal:
    """A statement that must not run on a shadow, why, and what its author can do instead."""

    statement: Statement
    reason: str
    advice: str


def refusals(script: Script) -> list[Refusal]:
    """Every reason not to run a script on a shadow, in the order of its statements; empty if it may run."""
    return [Refusal(each, f"{each.kinds[0]}: {why}", advice) for each in script.statements for why, advice in _against(each)]


def _against(statement: Statement) -> Iterator[tuple[str, str]]:
    if statement.tag in ("INSERT", "UPDATE", "DELETE") and _ANY_FUNCTION.search(statement.sql) is None:
        return  # migrations of megabytes are rows: nothing to look up in their trees
    if statement.tag in _REFUSED_TAGS:
        yield _REFUSED_TAGS[statement.tag]
    node = statement.node
    looked_at = _BY_NODE.get(node.DESCRIPTOR.name)
    if looked_at is not None:
        yield from looked_at(node)
    if _ANY_FUNCTION.search(statement.sql) is not None:
        yield from _calls(node)


def _calls(root: Any) -> Iterator[tuple[str, str]]:
    for node in messages(root):
        if node.DESCRIPTOR.name != "FuncCall":
            continue
        name = node.funcname[-1].string.sval
        if name == "set_config" and node.args and node.args[0].a_const.sval.sval.lower() in ("role", "session_authorization"):
            yield _IDENTITY, _OWN_ROLE
        for names, why in _FUNCTIONS:
            if names.fullmatch(name):
                yield f"{why} ({name})", _BY_HAND


def _copy(node: Any) -> Iterator[tuple[str, str]]:
    if node.is_program or node.filename:
        yield _OUTSIDE, _DATA if node.is_from else _BY_HAND
    else:
        yield "Prisma sends a file as one simple query, in which rows cannot follow or come back", _DATA


def _set(node: Any) -> Iterator[tuple[str, str]]:
    if node.name in ("role", "session_authorization") and node.kind != grammar.VAR_RESET:
        yield _IDENTITY, _OWN_ROLE


def _on_shared(node: Any) -> Iterator[tuple[str, str]]:
    kind = node.objtype
    if kind in _SHARED_OBJECTS:
        yield f"{_CLUSTER} (it names a {object_word(kind).lower()})", _BY_HAND


def _language(node: Any) -> Iterator[tuple[str, str]]:
    if node.plname.lower() not in _TRUSTED:
        yield f"{_OUTSIDE} (language {node.plname})", _BY_HAND


def _extension(node: Any) -> Iterator[tuple[str, str]]:
    """``CREATE LANGUAGE x`` is ``CREATE EXTENSION x`` to the grammar; extensions of untrusted languages end in ``u``."""
    if re.fullmatch(r"pl\w+u", node.extname):
        yield f"{_OUTSIDE} (language {node.extname})", _BY_HAND


def _code(node: Any) -> Iterator[tuple[str, str]]:
    """DO and CREATE FUNCTION: the language, then the words of the body."""
    options = {each.def_elem.defname: each.def_elem.arg for each in (node.args if _is_do(node) else node.options)}
    language = options["language"].string.sval.lower() if "language" in options else "plpgsql" if _is_do(node) else "sql"
    if language not in _TRUSTED:
        yield f"{_OUTSIDE} (language {language})", _BY_HAND
    if "as" not in options:
        return
    text = options["as"].string.sval or "\n".join(each.string.sval for each in options["as"].list.items)
    bare = _COMMENTS.sub(" ", text)
    for words, why in _BODY_WORDS:
        # Both forms: a comment may stand between two words, and what looks like a comment may be part of a string.
        found = words.search(text) or words.search(bare)
        if found is not None:
            yield f"{why} (its body says {' '.join(found.group().strip(' ;$').split())!r})", _BY_HAND


def _is_do(node: Any) -> bool:
    return bool(node.DESCRIPTOR.name == "DoStmt")


def _foreign_table(node: Any) -> Iterator[tuple[str, str]]:
    if any(each.def_elem.defname in ("program", "filename") for each in node.options):
        yield _OUTSIDE, _BY_HAND


_BY_NODE: Final = {
    "CommentStmt": _on_shared,
    "CopyStmt": _copy,
    "CreateExtensionStmt": _extension,
    "CreateForeignTableStmt": _foreign_table,
    "CreateFunctionStmt": _code,
    "CreatePLangStmt": _language,
    "DoStmt": _code,
    "GrantStmt": _on_shared,
    "SecLabelStmt": _on_shared,
    "VariableSetStmt": _set,
}
