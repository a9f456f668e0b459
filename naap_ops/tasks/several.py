"""One task for every configured database, one after the other; one that fails neither stops nor hides the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from naap_ops.errors import OpsError, Partial, UsageError
from naap_ops.tasks.command import Call


def no_single_one(call: Call) -> None:
    """Raise UsageError where a database is named as well."""
    if call.database or call.url:
        raise UsageError(detail="--all-databases takes the configured ones: leave out --database and --url")


def each_database(call: Call, one: Callable[[str | None], dict[str, Any]]) -> list[dict[str, Any]]:
    """What ``one`` gives for each alias (None: the only one, which has none). Raises Partial when some fail."""
    done: list[dict[str, Any]] = []
    failed: dict[str, OpsError] = {}
    aliases: list[str | None] = [*call.app.loaded.aliases()]
    for alias in aliases or [None]:
        try:
            with call.part(alias):
                done.append(one(alias))
        except OpsError as error:
            call.note(f"{alias or 'the database'}: {error.text}")
            failed[alias or ""] = error
    if failed:
        raise Partial(done=done, failed=failed)
    return done
