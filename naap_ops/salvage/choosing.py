"""Which tables are salvaged, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.errors import PrivilegeMissing, Refused, UsageError
from naap_ops.salvage import catalog, staging
from naap_ops.salvage.model import Fate, ForeignKey, Name, Pair, Table, Wanted
from naap_ops.salvage.pairing import pair
from naap_ops.salvage.staging import Sources
from naap_ops.salvage.touched import touched
from naap_ops.wording import count_of

if TYPE_CHECKING:
    from naap_ops.app import App

ONLY_OLD = "not in the live database"
_MANY = 0.5


@dataclass(frozen=True)
class Chosen:
    """``left``: tables that are left whole, with rows written since where they could be counted. ``tables``, ``keys``: all of
    the live database's."""

    pairs: dict[Name, Pair]
    left: dict[Name, Fate]
    notes: list[str]
    tables: Mapping[Name, Table]
    keys: list[ForeignKey]


def choose(app: App, sources: Sources, wanted: Wanted) -> Chosen:
    """Look at both databases. Raises UsageError, Refused (a migration's script is nowhere), PrivilegeMissing."""
    for connection in (sources.old, sources.live):
        connection.execute("set search_path to ''")
    old, live = catalog.tables(sources.old), catalog.tables(sources.live)
    keys = [key for key, _ in catalog.foreign_keys(sources.live)]
    names, reasons = _wanted(app, sources, wanted, (old, live))
    pairs: dict[Name, Pair] = {}
    for name in names:
        found = pair(len(pairs) + 1, old[name], live[name]) if name in live else ONLY_OLD
        if isinstance(found, Pair):
            pairs[name] = found
        else:
            reasons[name] = found
    _allowed(sources, pairs.values())
    staging.agree(sources.old)  # the search path of its own for expressions that run
    left = {name: fate for name, reason in reasons.items() if (fate := _left(sources, old[name], reason)) is not None}
    return Chosen(pairs, left, list(_notes(sources)), live, keys)


def _wanted(
    app: App, sources: Sources, wanted: Wanted, sides: tuple[Mapping[Name, Table], Mapping[Name, Table]]
) -> tuple[list[Name], dict[Name, str]]:
    """The tables to salvage, and why others are not."""
    old, _ = sides
    named = bool(wanted.tables or wanted.schemas)
    if wanted.everything and named:
        raise UsageError(detail="--all takes every table: give it, or --tables and --schema")
    if wanted.everything:
        return list(old), {}
    if named:
        schemas = {schema for schema, _ in old}
        if unknown := set(wanted.schemas) - schemas:
            raise UsageError(detail=f"the kept database has no tables in a schema {', '.join(sorted(unknown))}")
        tables = {_named(word, old) for word in wanted.tables}
        return [name for name in old if name in tables or name[0] in wanted.schemas], {}
    since = touched(app, sources.old, sources.manifest, sides)
    if since.unknown:
        missing = ", ".join(since.unknown)
        raise Refused(
            reason=f"which tables were touched since the backup is not known: no script of {missing} was found",
            hint="Say which tables: --tables, --schema, or --all.",
        )
    reasons = {name: f"{why} (--tables or --all brings it over)" for name, why in since.tables.items() if name in old}
    return [name for name in old if name not in reasons], reasons


def _named(word: str, tables: Iterable[Name]) -> Name:
    found = [name for name in tables if ".".join(name) == word] or [name for name in tables if name[1] == word]
    if len(found) != 1:
        several = ", ".join(".".join(name) for name in found)
        raise UsageError(
            detail=f"{word!r} is {several}" if found else f"the kept database has no table {word!r}",
            hint="Write it as schema.table.",
        )
    return found[0]


def _allowed(sources: Sources, pairs: Iterable[Pair]) -> None:
    """Raise PrivilegeMissing before anything is moved."""
    for each in pairs:
        lacking = [f"{right} on it in the live database" for right in each.live.missing]
        lacking += ["SELECT on it in the kept one"] if "SELECT" in each.old.missing else []
        if lacking:
            raise PrivilegeMissing(
                user=sources.live.info.user, action=f"salvage {each.live.qualified}: it lacks {', '.join(lacking)}"
            )


def _left(sources: Sources, table: Table, reason: str) -> Fate | None:
    """Rows written since; None where there are none."""
    if table.unreadable or "SELECT" in table.missing:
        return Fate(left={f"{reason}; what was written there could not be counted": 0})
    rows = staging.counted(sources, table)[1]
    return Fate(left={reason: rows}) if rows else None


def _notes(sources: Sources) -> Iterator[str]:
    query = "select count(*) from pg_catalog.pg_largeobject_metadata"
    counts = [(row[0] if (row := side.execute(query).fetchone()) else 0) for side in (sources.old, sources.live)]
    if counts[0] != counts[1]:
        yield f"large objects are not brought over: the old database has {counts[0]:,}, the live one {counts[1]:,}"


def remarks(sources: Sources, pair: Pair, fate: Fate) -> Iterator[str]:
    """What people should know of a table beside its numbers."""
    if pair.lost and (fate.inserted or fate.updated):
        yield f"not brought over, as the live table has no such column or another type: {', '.join(pair.lost)}"
    rows = sources.base_rows(pair)
    if fate.deleted > rows * _MANY:
        yield (
            f"{fate.deleted:,} of the {count_of(rows, 'row')} that the backup has were deleted in the old database,"
            " and are deleted in the live one, too: --no-deletes keeps them"
        )
