"""Prisma's own errors, by its code and in its words, so that what is known of them can be looked up.

Source: libs/user-facing-errors/src/schema_engine.rs.
"""

from __future__ import annotations

from typing import Any

from naap_ops.errors import CommandFailed, ConfigurationError, MigrationNotFound, OutOfStep, Refused

DATABASE_NOT_EMPTY = "P3005"
ALREADY_APPLIED = "P3008"
FAILED_BEFORE = "P3009"
NAME_TOO_LONG = "P3010"
NEVER_APPLIED = "P3011"
NOT_FAILED = "P3012"
SCRIPT_MISSING = "P3015"
NO_FOLDER = "P3017"
FAILED = "P3018"
OTHER_PROVIDER = "P3019"


class _Coded:
    """``code`` joins the JSON form as ``prisma``."""

    fields: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "prisma": self.fields["code"]}  # type: ignore[misc]


class MigrateRefused(_Coded, Refused):
    """What Prisma refuses, and we as well. Fields: ``code``, ``reason``, ``hint``."""

    message = "{code}: {reason}"


class MigrateMisconfigured(_Coded, ConfigurationError):
    """The project on disk is not as Prisma wants it. Fields: ``code``, ``reason``, ``hint``."""

    message = "{code}: {reason}"


class FailedBefore(_Coded, OutOfStep):
    """Nothing is deployed while a migration is failed in the books. Fields: ``code``, ``reason``, ``names``, ``hint``."""

    message = "{code}: {reason}"


class MigrationFailed(_Coded, CommandFailed):
    """A migration failed in the live database. Fields: ``code``, ``migration``, ``statement`` (from 1, None: unknown),
    ``line`` (from 1, None: unknown), ``sqlstate``, ``database_error``, ``applied`` (names applied before it), ``where``.
    """

    message = "{code}: migration {migration} failed{where}: {database_error}"
    hint = "What took effect? `invoke status`; then roll it back, resolve it, or restore: `invoke deploy` says how."


class NotThere(_Coded, MigrationNotFound):
    """There is no such folder, or no such row. Fields: ``code``, ``ref``, ``folder``, ``what``."""

    message = "{code}: no migration {ref!r} in {folder}"
