"""Which of several database URLs is taken, and how the choice is told.

The stronger place wins. One exception: a URL no dump is possible through (pooled, Accelerate) gives way to a direct one found
in a weaker place, because that is what ``DIRECT_URL`` beside a pooled ``DATABASE_URL`` is for; the source then says so. It
never gives way to a URL that names another database, and never when it was given as a flag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from naap_ops.config import dsn
from naap_ops.config.envfiles import EnvFile

OWN = "NAAP_OPS_DATABASE_URL"
SHADOW = "SHADOW_DATABASE_URL"
# Preferred first: the direct ones of Prisma's and Neon's/Vercel's conventions, then the one that may be pooled.
CONVENTIONAL = ("DIRECT_URL", "DATABASE_URL_UNPOOLED", "DATABASE_URL")


@dataclass(frozen=True)
class DatabaseChoice:
    """One database to work on. ``url`` None means PG* variables; ``source`` is for messages: ``DIRECT_URL in .env``."""

    alias: str | None
    url: str | None = field(repr=False)
    source: str
    tenant_schemas: str
    plugin_schemas: str


@dataclass(frozen=True)
class Candidate:
    """A URL and its place: ``source`` as in the table of settings, ``label`` as in messages; ``fixed``: never replaced."""

    url: str = field(repr=False)
    source: str
    label: str
    fixed: bool = False


def candidates(environ: Mapping[str, str], files: Sequence[EnvFile]) -> Iterator[Candidate]:
    """What the process environment and then the ``.env`` files offer, strongest first."""
    for name in (OWN, *CONVENTIONAL):
        if environ.get(name):
            yield Candidate(environ[name], f"environment {name}", f"{name} in the environment")
    for file in files:
        for name in (OWN, *CONVENTIONAL):
            if name in file.variables:
                yield Candidate(file.variables[name], f"{file.name} {name}", f"{name} in {file.name}")


def choose(offered: Sequence[Candidate]) -> Candidate | None:
    """The URL to take of those offered, strongest first."""
    if not offered:
        return None
    first = offered[0]
    if first.fixed or dsn.refusal(first.url) is None:
        return first
    direct = [other for other in offered[1:] if dsn.refusal(other.url) is None and dsn.database_name(other.url)]
    for other in direct:
        if dsn.database_name(first.url) in (None, dsn.database_name(other.url)):
            remark = f" (instead of {first.label}, which is pooled)"
            return replace(other, source=other.source + remark, label=other.label + remark)
    if direct:
        remark = f" ({direct[0].label} is direct, but names another database)"
        return replace(first, label=first.label + remark)
    return first
