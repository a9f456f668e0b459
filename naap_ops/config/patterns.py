"""Schema patterns with one ``*``: ``tenant_*`` stands for one schema per tenant, ``plugin_*`` for one per plugin."""

from __future__ import annotations

import re
from collections.abc import Iterable

from naap_ops.errors import ConfigurationError, UsageError

# What a restore of a schema or a table leaves behind, `tenant_acme__before_20261121T031500Z`: a copy, nobody's own schema.
KEPT = r"(__|^naap_ops_)(before|undone)_[0-9]{8}T[0-9]{6}Z$"


def checked(pattern: str) -> str:
    """``pattern`` if it has exactly one ``*``. Raises ValueError."""
    if pattern.count("*") != 1:
        raise ValueError(f"{pattern!r} must hold exactly one '*', the place of the tenant's or plugin's own name")
    return pattern


def matching(pattern: str, schemas: Iterable[str]) -> list[str]:
    """Those of ``schemas`` that the pattern stands for, sorted, without what restores have kept of them."""
    before, _, after = pattern.partition("*")
    least = len(before) + len(after)
    found = (name for name in schemas if len(name) > least and name.startswith(before) and name.endswith(after))
    return sorted(name for name in found if not re.search(KEPT, name))


def schema_for(pattern: str, slug: str) -> str:
    """The schema of ``slug``: ``tenant_*`` and ``acme`` make ``tenant_acme``. Raises ConfigurationError, UsageError."""
    try:
        checked(pattern)
    except ValueError as error:
        raise ConfigurationError(detail=f"schema pattern {error}") from None
    if not slug or "\0" in slug:
        raise UsageError(detail=f"{slug!r} cannot be the name of a tenant or plugin")
    return pattern.replace("*", slug)


def slug_of(pattern: str, schema: str) -> str | None:
    """The other way round: ``acme`` of ``tenant_acme``; None where it is no tenant's."""
    if not matching(pattern, [schema]):
        return None
    before, _, after = pattern.partition("*")
    return schema[len(before) : len(schema) - len(after)]
