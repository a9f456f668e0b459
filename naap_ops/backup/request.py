"""What a backup is asked to hold, and how patterns of schemas and tables become exact names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from naap_ops.backup.manifest import Scope
from naap_ops.errors import UsageError
from naap_ops.postgres.catalog.tables import Table

KINDS = ("full", "schema", "data")
FORMATS = ("directory", "custom", "plain")


class NothingMatches(UsageError):
    message = "no {what} matches {pattern!r}"
    hint = "{candidates}"


@dataclass(frozen=True)
class BackupRequest:
    """One backup to take. ``schemas``, ``tables``, ``exclude_table_data`` are shell-style patterns; case matters.

    ``lock_wait_timeout`` is in seconds. ``compression`` is ``auto``, ``none``, or a method with an optional level (``zstd:3``).
    """

    alias: str
    kind: str = "full"
    schemas: Sequence[str] = ()
    tables: Sequence[str] = ()
    exclude_table_data: Sequence[str] = ()
    label: str = ""
    format: str = "directory"
    compression: str = "auto"
    jobs: int = 2
    lock_wait_timeout: float = 30.0
    verify: str = "read"
    annotations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("format", self.format, FORMATS)
        _one_of("verify", self.verify, ("hash", "read", "restore"))
        if self.jobs < 1:
            raise UsageError(detail=f"jobs must be at least 1, not {self.jobs}")
        if any(c in "/\\" or not c.isprintable() for c in self.label) or len(self.label.encode()) > 100:
            raise UsageError(detail=f"label {self.label!r} must be at most 100 bytes, all printable, without slashes")
        if self.label == "latest":
            raise UsageError(detail="'latest' always means the newest backup and cannot be a label")


def _one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise UsageError(detail=f"{what} {value!r} is not one of {', '.join(allowed)}")


def resolve(request: BackupRequest, schemas: Sequence[str], tables: Sequence[Table]) -> Scope:
    """Exact names for the request's patterns; a partitioned table stands for its partitions too, which hold its rows.

    Raises NothingMatches for a pattern that names nothing, UsageError for schemas and tables at once (pg_dump would ignore the
    schemas).
    """
    if request.schemas and request.tables:
        raise UsageError(detail="give schemas (or tenants, or plugins) or tables, not both; take two backups")
    chosen = [name for pattern in request.schemas for name in match("schema", pattern, schemas)]
    return Scope(
        schemas=sorted(set(chosen)),
        tables=_tables(request.tables, tables),
        exclude_table_data=_tables(request.exclude_table_data, tables),
    )


def _tables(patterns: Sequence[str], tables: Sequence[Table]) -> list[str]:
    by_oid = {t.oid: t for t in tables}
    found = {t.oid for pattern in patterns for t in _hits(pattern, tables)}
    return sorted(t.qualified for t in tables if found & _lineage(t, by_oid))


def _hits(pattern: str, tables: Sequence[Table]) -> Sequence[Table]:
    """Equal names before matching ones; a pattern without a dot is about names alone, in whatever schema."""
    for hits in (
        [t for t in tables if pattern in (t.qualified, t.name)],
        [t for t in tables if "." in pattern and fnmatchcase(t.qualified, pattern)],
        [t for t in tables if fnmatchcase(t.name, pattern)],
    ):
        if hits:
            return hits
    raise _nothing("table", pattern, [t.qualified if "." in pattern else t.name for t in tables])


def _lineage(table: Table, by_oid: Mapping[int, Table]) -> set[int]:
    """The table and all that it is a partition of, however deep."""
    found = {table.oid}
    while table.partition_of is not None:
        table = by_oid[table.partition_of]
        found.add(table.oid)
    return found


def match(what: str, pattern: str, names: Sequence[str]) -> list[str]:
    """Names equal to ``pattern``, else those it matches as a shell-style pattern. Raises NothingMatches."""
    found = [n for n in names if n == pattern] or [n for n in names if fnmatchcase(n, pattern)]
    if not found:
        raise _nothing(what, pattern, names)
    return found


def _nothing(what: str, pattern: str, names: Sequence[str]) -> NothingMatches:
    import difflib

    names = list(dict.fromkeys(names))
    near = difflib.get_close_matches(pattern, names, n=3)
    listed = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names[:20]) or 'none'}"
    return NothingMatches(what=what, pattern=pattern, candidates=listed)
