"""Which part of two states is compared, and what of it is left aside: other schemas, Prisma's books, owners that cannot agree.

A shadow is not the live database: its objects belong to whoever made the shadow, and its server may have no roles of the live
one. A live database that came out of a dump spells some expressions otherwise than the migration that made them. None of that
is a difference of schemas. Everything here takes a catalog and gives one; nothing looks at a database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import KINDS
from naap_ops.reverse.images.staged import PREFIX

BOOKS: Final = "_prisma_migrations"
DATABASE_WIDE: Final = ("extension", "publication", "event_trigger", "default_privileges", "other")
# What a dump keeps as it is, if the shadow's user may set it at all.
_RIGHTS: Final = frozenset({"owner", "acl", "column_acl"})
_SAFE: Final = re.compile(r"[A-Za-z0-9_]+")

Look = Callable[[Catalog], Catalog]
"""How a state is looked at: everything in it that does not count is away."""


def schemas(catalog: Catalog, schema: str) -> frozenset[str]:
    """The schemas that a history has made or put something into, and the one that its unqualified names mean.

    ``public`` is in every new database: it counts only with something in it.
    """
    made = {row.name for row in catalog.rows["schema"].values()} - {"public"}
    filled = {row.schema for _, row in _in_schemas(catalog)}
    return frozenset({schema} | made | filled)


def filled(catalog: Catalog) -> set[str]:
    """The schemas with something in them."""
    return {row.schema for _, row in _in_schemas(catalog)}


def _in_schemas(catalog: Catalog) -> Iterator[tuple[str, Any]]:
    for name, kind in KINDS.items():
        if kind.identity[0] == "schema":
            yield from ((name, row) for row in catalog.rows[name].values())


# --- leaving out ----------------------------------------------------------------------------------------------------


def within(catalog: Catalog, wanted: Collection[str] | None, others: Collection[str] = ()) -> Catalog:
    """Without Prisma's books, without columns that a rollback is just filling, and without what lies in schemas that are not
    ``wanted`` (None: all are).

    ``others``: the schemas that are known not to be wanted; what is named by its full name only is told by that.
    """
    heads = tuple(f"{spelled}." for name in others for spelled in (name, f'"{name}"'))

    def counts(kind: str, row: Any) -> bool:
        if kind == "schema":
            return wanted is None or row.name in wanted
        if kind == "other":
            return not row.identity.startswith(heads)
        if kind == "default_privileges":
            return wanted is None or row.schema in ("", *wanted)
        if KINDS[kind].identity[0] != "schema":
            return True
        if (row.name if kind == "table" else getattr(row, "table", None)) == BOOKS:
            return False
        if kind in ("column", "index") and row.name.startswith(PREFIX):
            return False
        return wanted is None or row.schema in wanted

    return _only(catalog, counts)


def known(catalog: Catalog, to: Catalog) -> Catalog:
    """Without what belongs to the whole database and is not in the state ``to``."""

    def counts(kind: str, row: Any) -> bool:
        return kind not in DATABASE_WIDE or to.find(KINDS[kind], *KINDS[kind].identify(row)) is not None

    return _only(catalog, counts)


def _only(catalog: Catalog, counts: Callable[[str, Any], bool]) -> Catalog:
    rows = {name: {key: row for key, row in of.items() if counts(name, row)} for name, of in catalog.rows.items()}
    return replace(catalog, rows=rows, named={})


# --- owners and privileges ------------------------------------------------------------------------------------------


def without_owners(catalog: Catalog) -> Catalog:
    """Nobody owns anything, nobody has privileges: for a state that was made where the roles are others."""

    def bare(row: Any) -> Any:
        blank: dict[str, Any] = {"owner": "", "acl": None, "column_acl": []}
        return row._replace(**{name: value for name, value in blank.items() if name in row._fields})

    rows = {name: {key: bare(row) for key, row in of.items()} for name, of in catalog.rows.items()}
    return replace(catalog, rows={**rows, "default_privileges": {}}, user="", named={})


def handed(catalog: Catalog, role: str) -> Catalog:
    """What the catalog's user owns and was granted is ``role``'s: as if that had run the migrations."""
    was = catalog.user
    if was == role:
        return catalog

    def given(row: Any) -> Any:
        fields: dict[str, Any] = {}
        for name in ("owner", "role"):
            if getattr(row, name, None) == was:
                fields[name] = role
        if getattr(row, "acl", None) is not None:
            fields["acl"] = sorted(_regranted(item, was, role) for item in row.acl)
        if getattr(row, "column_acl", None):
            fields["column_acl"] = [_regranted(item, was, role) for item in row.column_acl]
        return row._replace(**fields) if fields else row

    rows = {name: {key: given(row) for key, row in of.items()} for name, of in catalog.rows.items()}
    return replace(catalog, rows=rows, user=role, named={})


def _regranted(item: str, was: str, role: str) -> str:
    """An aclitem, ``grantee=letters/grantor``, with another role in the place of one."""
    old, new = _in_acl(was), _in_acl(role)
    if item.endswith(f"/{old}"):
        item = item.removesuffix(old) + new
    return new + item.removeprefix(old) if item.startswith(f"{old}=") else item


def _in_acl(role: str) -> str:
    return role if _SAFE.fullmatch(role) else '"' + role.replace('"', '""') + '"'


# --- what need not agree --------------------------------------------------------------------------------------------


def agreed(expected: Catalog, live: Catalog, given: Collection[str]) -> tuple[Catalog, list[str]]:
    """``expected`` with what no migration decides as it is in ``live``, and remarks: versions of extensions; the owners of the
    schemas ``given``, which were there before any migration."""
    notes = []
    extensions, found = dict(expected.rows["extension"]), dict(expected.rows["schema"])
    for key, row in extensions.items():
        there = live.find(KINDS["extension"], row.name)
        if there is not None and there.version != row.version:
            notes.append(f"extension {row.name} is of version {there.version}; made now it would be {row.version}")
            extensions[key] = row._replace(version=there.version)
    for key, row in found.items():
        there = live.find(KINDS["schema"], row.name)
        if there is not None and row.name in given and there.owner != row.owner:
            found[key] = row._replace(owner=there.owner, acl=there.acl)
    return replace(expected, rows={**expected.rows, "extension": extensions, "schema": found}, named={}), notes


def placed_as(expected: Catalog, live: Catalog) -> Catalog:
    """``expected`` with every extension where it is in ``live``: there is one of it for all schemas."""
    rows = dict(expected.rows["extension"])
    for key, row in rows.items():
        there = live.find(KINDS["extension"], row.name)
        if there is not None:
            rows[key] = row._replace(schema=there.schema)
    return replace(expected, rows={**expected.rows, "extension": rows}, named={})


def settled(expected: Catalog, live: Catalog, restored: Catalog) -> Catalog:
    """``expected`` with the spelling of ``live`` where a dump of the expected state, ``restored``, is spelled like that, too.

    The server does not print every expression so that it is read back as the same tree (``IN`` of a varchar column gets other
    casts), so a database that was restored differs in words, and in nothing else.
    """
    rows: dict[str, dict[int, Any]] = {}
    for name, kind in KINDS.items():
        rows[name] = dict(expected.rows[name])
        for key, row in expected.rows[name].items():
            there, again = live.find(kind, *kind.identify(row)), restored.find(kind, *kind.identify(row))
            if there is None or again is None:
                continue
            seen = [field for field in row._fields if field not in kind.unseen and field not in _RIGHTS]
            words = {
                field: getattr(there, field)
                for field in seen
                if getattr(row, field) != getattr(there, field) == getattr(again, field)
            }
            if words:
                rows[name][key] = row._replace(**words)
    return replace(expected, rows=rows, named={})


def mentions(catalog: Catalog, name: str) -> bool:
    """Whether a name stands anywhere in a state, in texts that the server does not look into as well."""
    return any(mentioned(name, repr(row)) for of in catalog.rows.values() for row in of.values())


def mentioned(name: str, text: str) -> bool:
    """Whether a name stands in a text as a word."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None
