"""The live catalog of a schema and how a shadow's is to be looked at beside it, so that only what counts can differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.reverse import scope

if TYPE_CHECKING:
    from collections.abc import Collection

    from naap_ops.postgres.session import Connection


@dataclass(frozen=True)
class Sight:
    """``live``: the live catalog of the schemas ``only`` (None: all), with what does not count away. ``outside``: the names of
    the schemas that were left out; ``role``: who deploys."""

    live: Catalog
    only: frozenset[str] | None
    outside: tuple[str, ...]
    role: str
    beside: bool

    def as_live(self, catalog: Catalog) -> Catalog:
        """A state of a database in which the deploying role has made everything."""
        return _kept(catalog, self.only, self.outside, self.beside)

    def as_expected(self, catalog: Catalog) -> Catalog:
        """A state of the shadow, where everything belongs to whoever made it."""
        return self.as_live(scope.handed(catalog, self.role) if self.beside else catalog)


def sight(connection: Connection, schema: str, only: frozenset[str] | None, *, beside: bool) -> Sight:
    """Look at the live database. ``beside``: the shadow is on the same server, so that owners and privileges compare."""
    names = [name for (name,) in connection.execute("select nspname::text from pg_catalog.pg_namespace").fetchall()]
    outside = tuple(name for name in names if only is not None and name not in only and not name.startswith("pg_"))
    full = snapshot(connection, schema=schema, only=only)
    books = next((row for row in full.rows["table"].values() if (row.schema, row.name) == (schema, scope.BOOKS)), None)
    role = books.owner if books is not None else full.user
    return Sight(_kept(full, only, outside, beside), only, outside, role, beside)


def _kept(catalog: Catalog, only: frozenset[str] | None, outside: Collection[str], beside: bool) -> Catalog:
    kept = scope.within(catalog, only, outside)
    return kept if beside else scope.without_owners(kept)
