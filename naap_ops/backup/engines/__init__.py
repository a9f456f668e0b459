"""Dump engines, one per archive format: each writes an archive with pg_dump and can read one whole."""

from __future__ import annotations

from naap_ops.backup.engines.base import Engine
from naap_ops.errors import UsageError


def engine(name: str) -> Engine:
    """The engine of a format. Raises UsageError for an unknown one."""
    if name == "directory":
        from naap_ops.backup.engines.directory import DirectoryEngine

        return DirectoryEngine()
    if name == "custom":
        from naap_ops.backup.engines.custom import CustomEngine

        return CustomEngine()
    if name == "plain":
        from naap_ops.backup.engines.plain import PlainEngine

        return PlainEngine()
    raise UsageError(detail=f"no such format: {name!r}")
