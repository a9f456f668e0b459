"""Checks as monitoring asks for them: which databases, by which limits; what keeps one from being looked at is a finding."""

from __future__ import annotations

from collections.abc import Sequence

from naap_ops import clock
from naap_ops.app import App
from naap_ops.backup.health import Health, Limits, health, unknown
from naap_ops.errors import OpsError, UsageError


def aliases(app: App, database: str | None, *, everything: bool = False) -> list[str]:
    """The databases to check: the one named or the only one there is; or all configured ones, else all in the repository.

    An empty name stands for one that is not known, in a repository that is empty. Raises UsageError where several could be
    meant, StorageError.
    """
    configured = app.loaded.settings.databases
    if everything:
        return list(configured) or sorted({*app.repository.aliases(), *app.loaded.aliases()})
    alias = app.alias(database)
    if alias is not None:
        return [alias]
    if configured:
        return [str(app.loaded.database(None).alias)]
    found = app.repository.aliases()
    if len(found) > 1:
        raise UsageError(detail=f"the repository holds several databases: {', '.join(found)}", hint="Name one with --database.")
    return found or [""]


def limits(app: App) -> Limits:
    """The settings' limits."""
    settings = app.loaded.settings.check
    return Limits(settings.warn_age, settings.crit_age, settings.size_change, settings.drill_age)


def check(app: App, names: Sequence[str]) -> dict[str, Health]:
    """The health of each database's backups; never empty. A repository that cannot be read is a finding, not a failure."""
    found = {name: _one(app, name) for name in names}
    return found or {"": _none(app)}


def _one(app: App, name: str) -> Health:
    try:
        backups = app.repository.backups(name) if name else []
    except OpsError as error:
        return unknown(error.text)
    return health(backups, limits(app), clock.now()) if backups else _none(app)


def _none(app: App) -> Health:
    return unknown(f"there is no backup in {app.repository.storage.url}")
