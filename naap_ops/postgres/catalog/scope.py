"""Which objects a snapshot is about: the user's, not the server's, not an extension's members, not this toolkit's own
schema."""

from __future__ import annotations

from collections.abc import Collection

OWN_SCHEMA = "naap_ops"

# For a namespace joined as n.
SCHEMAS = f"n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> '{OWN_SCHEMA}'"


def narrowed(query: str, only: Collection[str] | None) -> str:
    """A kind's query, of these schemas alone; None: of all."""
    if only is None:
        return query
    names = ", ".join("E'" + name.replace("\\", "\\\\").replace("'", "''") + "'" for name in sorted(only))
    return query.replace(SCHEMAS, f"{SCHEMAS} and n.nspname in ({names or 'null'})")


def not_member(catalog: str, oid: str) -> str:
    """SQL: the object is not a member of an extension (those come and go with it)."""
    return (
        f"not exists (select from pg_catalog.pg_depend ext where ext.classid = 'pg_catalog.{catalog}'::regclass "
        f"and ext.objid = {oid} and ext.deptype = 'e')"
    )


def acl(column: str, letter: str, owner: str) -> str:
    """SQL: privileges as sorted text, null when they are what an unset list stands for, so that both compare as equal."""
    given = f"(select array_agg(a::text order by a::text) from unnest({column}) a)"
    default = f"(select array_agg(a::text order by a::text) from unnest(acldefault('{letter}', {owner})) a)"
    return f"case when {column} is not null then nullif(coalesce({given}, '{{}}'), {default}) end"


def comment(catalog: str, oid: str, number: str = "0") -> str:
    """SQL: the object's comment or null."""
    return (
        f"(select d.description from pg_catalog.pg_description d where d.objoid = {oid} "
        f"and d.classoid = 'pg_catalog.{catalog}'::regclass and d.objsubid = {number})"
    )
