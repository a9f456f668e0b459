"""What nearly every object has beside its definition: an owner, privileges, a comment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from naap_ops.reverse.acl import Grants, default_acl, given_over, grantors, parse_acl, statements
from naap_ops.reverse.model import Irreversible, Piece, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.render import literal, quoted

_LETTERS = {"table": "r", "sequence": "S", "routine": "f", "type": "T", "schema": "n"}  # of pg_default_acl


def belongings(step: Step, phrase: str, kind: str, before: Any, after: Any, *, order: int = 0) -> Iterator[Piece]:
    """Pieces that give an object back its owner, privileges and comment.

    ``phrase``: SQL's words for the object, ``TABLE "t"``; ``after`` is None when the object is created anew by the reverse.
    ``kind``: whose default privileges it has (table, sequence, routine, type, schema); '' when it can have none.
    """
    owner = getattr(before, "owner", None)
    have_owner = getattr(after, "owner", None) if after is not None else step.after.user
    if owner is not None and owner != have_owner:
        yield Piece(Rank.OWNER, order, f"ALTER {phrase} OWNER TO {quoted(owner)}", relation=phrase)
    yield from _privileges(step, phrase, kind, before, after, order)
    old, now = before.comment, after.comment if after is not None else None
    if old != now:
        text = literal(old) if old is not None else "NULL"
        yield Piece(Rank.COMMENT, order, f"COMMENT ON {phrase} IS {text}", lock="SHARE UPDATE EXCLUSIVE", relation=phrase)


def _privileges(step: Step, phrase: str, kind: str, before: Any, after: Any, order: int) -> Iterator[Piece]:
    if not kind or not hasattr(before, "acl"):
        return
    old, now, owner = before.acl, after.acl if after is not None else None, before.owner
    if after is not None and old == now and (old is None or owner == after.owner):
        return
    if others := grantors(item for item in old or () if item not in (now or ())) - {owner, getattr(after, "owner", owner)}:
        raise Irreversible(
            f"privileges on {phrase} that {', '.join(sorted(others))} had granted can be granted again only by them"
        )
    default = default_acl(kind, owner, step.before.major)
    want = default if old is None else parse_acl(old)
    if after is None:
        have = _given_to_new(step, kind, before)
    else:
        have = default if now is None else given_over(parse_acl(now), after.owner, owner)
    for sql in statements(_object(phrase), have, want):
        yield Piece(Rank.PRIVILEGES, order, sql, lock="", relation=phrase)


def _given_to_new(step: Step, kind: str, before: Any) -> Grants:
    """What an object has as soon as it is made, by ALTER DEFAULT PRIVILEGES; those of its schema add to those of all
    schemas."""
    user = step.after.user
    given = default_acl(kind, user, step.before.major)
    rows = [row for row in step.after.rows["default_privileges"].values() if row.role == user and row.objects == _LETTERS[kind]]
    for row in rows:
        if not row.schema:
            given = parse_acl(row.acl)
    for row in rows:
        if row.schema and row.schema == getattr(before, "schema", None):
            given |= {key: option or given.get(key, False) for key, option in parse_acl(row.acl).items()}
    return given_over(given, user, before.owner)


def _object(phrase: str) -> str:
    for word in ("VIEW ", "MATERIALIZED VIEW ", "FOREIGN TABLE "):
        if phrase.startswith(word):
            return "TABLE " + phrase.removeprefix(word)
    if phrase.startswith("AGGREGATE "):  # to GRANT they are functions of all their arguments
        return "FUNCTION " + phrase.removeprefix("AGGREGATE ").replace("(*)", "()").replace(" ORDER BY ", ", ")
    return "TYPE " + phrase.removeprefix("DOMAIN ") if phrase.startswith("DOMAIN ") else phrase
