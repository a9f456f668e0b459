"""The state from which a migration starts: a schema's script, loaded into a shadow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import psycopg
from psycopg import sql

from naap_ops import process
from naap_ops.errors import ForwardFailed, ReverseRefused
from naap_ops.postgres.catalog.extensions import unavailable
from naap_ops.postgres.catalog.roles import missing_roles
from naap_ops.postgres.session import connect
from naap_ops.reverse import refusals
from naap_ops.reverse.replay import replay

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection
    from naap_ops.postgres.tools import Toolset
    from naap_ops.reverse.proof import Shadow
    from naap_ops.reverse.script import Script

_RESTRICT = re.compile(r"^\\restrict (\S+)$", re.MULTILINE)
_ENTRY = re.compile(r"^(?=--\n-- Name: .*\n--\n)", re.MULTILINE)
_SHOWN = 5
# What a user without the original's rights or roles is told.
_RIGHTS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject)


class ExtensionLacking(ReverseRefused):
    """The shadow's server cannot take a migration before the one in question. Fields: ``names``, ``text``."""

    message = "the shadow's server has no extension {names}\n{text}"
    hint = "Install it there, or try another --shadow-server."


class Dump(Protocol):
    """A schema as pg_dump writes it, without rows; ``full``: with owners and privileges."""

    def __call__(self, *, full: bool) -> str: ...


def dumped(tools: Toolset, info: ConnInfo, *, full: bool) -> str:
    """The schema of a database by pg_dump. Raises CommandFailed."""
    words = ["--schema-only", "--no-subscriptions", "--no-security-labels", "--no-tablespaces", "--no-password"]
    command = tools.command("pg_dump", [*words, *([] if full else ["--no-owner", "--no-privileges"])], info)
    return process.run(command.argv, env=command.env, input=command.preamble or None)[1].decode()


def fill(info: ConnInfo, dump: Dump, wanted: Sequence[str], roles: Sequence[str]) -> tuple[list[str], list[str]]:
    """Load a schema that needs the extensions ``wanted``; ``roles`` are made. What is lacking, and notes on what is otherwise.

    With owners and privileges if the shadow's user may set them, else without. Raises ReverseRefused for what does not load.
    """
    with connect(info) as connection:
        lacking = unavailable(connection, list(wanted))
    lend(info, roles)
    if lacking:
        left = load(info, dump(full=True), tolerant=True)
        shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
        return lacking, [f"not in the shadow, for want of {', '.join(lacking)}: {shown}"] if left else []
    try:
        load(info, dump(full=True))
    except _RIGHTS:
        try:
            load(info, dump(full=False))
        except psycopg.Error as error:
            raise _unloadable(error) from error
        return [], ["owners and privileges are not in the shadow: what the migration does to them is not undone"]
    except psycopg.Error as error:
        raise _unloadable(error) from error
    return [], []


def lend(info: ConnInfo, roles: Sequence[str]) -> None:
    """Have a server of our own know these roles, so that what names them runs there."""
    with connect(info) as connection:
        for role in missing_roles(connection, list(roles)):
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(role)))


def _unloadable(error: psycopg.Error) -> ReverseRefused:
    return ReverseRefused(
        reason=f"the starting state does not load into the shadow: {error.diag.message_primary or error}",
        hint="Try another --shadow-server, or another state: --from history.",
    )


def load(info: ConnInfo, script: str, *, tolerant: bool = False) -> list[str]:
    """Run what ``pg_dump --schema-only`` wrote. ``tolerant``: what fails is left out; the result says what that was.

    Raises psycopg.Error, and then nothing of it is there. Not by psql: no rows are in it, and so no command of psql can come
    from a name.
    """
    if found := _RESTRICT.search(script):
        script = re.sub(rf"^\\(?:un)?restrict {re.escape(found[1])}$", "", script, flags=re.MULTILINE)
    with connect(info, application_name="naap_ops shadow") as connection:
        connection.execute("set client_min_messages = error")
        if not tolerant:
            try:
                connection.execute(script.encode())
                return []
            except psycopg.errors.OutOfMemory:  # one transaction holds a lock on every object that it makes
                pass
        return list(_by_entries(connection, script, tolerant=tolerant))


def _by_entries(connection: Connection, script: str, *, tolerant: bool) -> Iterator[str]:
    for entry in _ENTRY.split(script):
        try:
            connection.execute(entry.encode())
        except psycopg.Error as error:
            if not tolerant or connection.closed:
                raise
            name = re.search(r"^-- Name: (.*?); Type: (.*?);", entry, re.MULTILINE)
            yield f"{name[2].lower()} {name[1]}" if name else str(error.diag.message_primary)


# --- by replaying ---------------------------------------------------------------------------------------------------


def replayed(shadow: Shadow, script: Script) -> None:
    """Run a migration that comes before the one in question. The shadow's catalog is not looked at.

    Raises ForwardFailed, and ReverseRefused for one that would leave the shadow.
    """
    outside = refusals.refusals(script)
    if outside:
        first = outside[0]
        raise ReverseRefused(
            reason=f"{script.name} comes before it and is not run here: statement {first.statement.index}: {first.reason}",
            hint="Start from another state: --from live, or --from backup.",
        )
    try:
        replay(shadow.connection, script, shadow.catalog, steps=False, look=False)
    except ForwardFailed as failure:
        if lacking := missing_extensions(shadow.connection, script, failure):
            raise ExtensionLacking(names=", ".join(lacking), text=failure.text) from failure
        raise


def missing_extensions(connection: Connection, script: Script, failure: ForwardFailed) -> list[str]:
    """The extension that the statement which failed would have created, where the server has no files for it."""
    statement = script.statements[failure.fields["statement"] - 1]
    if statement.tag != "CREATE EXTENSION":
        return []
    return unavailable(connection, [statement.node.extname])
