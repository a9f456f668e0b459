"""What went wrong while restoring, in the toolkit's own terms: errors of the server by SQLSTATE, of the tools by their text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from naap_ops.errors import Blocked, CommandFailed, NoSpace, OpsError, PrivilegeMissing, Refused, ServerUnreachable

if TYPE_CHECKING:
    from psycopg import Error

    from naap_ops.postgres.conninfo import ConnInfo

_ERROR_LINE = re.compile(r"^(?:pg_restore: (?:error|while)|psql:.*?: (?:ERROR|FATAL|error)|ERROR|FATAL)", re.MULTILINE)
_MISSING_ROLE = re.compile(r'role "(.*?)" does not exist')
_MISSING_EXTENSION = re.compile(r'extension "(.*?)" is not available')
_MISSING = re.compile(r'(?:type|schema|function|relation|tablespace|access method|text search \w+) "?.*?"? does not exist')
_DENIED = re.compile(r"permission denied.*|must be (?:owner|superuser|able to SET ROLE|member).*")
_FULL = re.compile(r".*(?:No space left on device|could not extend file|Disk quota exceeded).*")
_LOST = re.compile(
    r".*(?:server closed the connection|terminating connection|connection to server .* failed|connection not open).*"
)
_COMMAND = re.compile(r"^Command was: (.*(?:\n(?!\n|pg_restore: ).*)*)", re.MULTILINE)
_NOWHERE = re.compile(r"connection to server .* failed")
_NEWER = re.compile(r"unsupported version \(([\d.]+)\) in file header")
_LINES = 8
_STATEMENT_CHARACTERS = 300


@contextmanager
def server_errors(info: ConnInfo, doing: str) -> Iterator[None]:
    """Failures of the server while ``doing`` something, as ServerUnreachable, PrivilegeMissing, Blocked, NoSpace or Refused."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise server_error(error, info, doing) from error


def server_error(error: Error, info: ConnInfo, doing: str) -> OpsError:
    """One such failure."""
    from psycopg import errors

    message = error.diag.message_primary or str(error)
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    if error.sqlstate is None or isinstance(error, errors.AdminShutdown | errors.CrashShutdown):
        return ServerUnreachable(address=info.address, reason=f"the connection was lost while {doing}: {message}")
    if isinstance(error, errors.InsufficientPrivilege):
        return PrivilegeMissing(user=info.user or "(default)", action=f"do this while {doing}: {message}")
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
        return Blocked(what=doing, blockers=message + detail)
    if isinstance(error, errors.DiskFull):
        return NoSpace(where=info.address, reason=message)
    return Refused(reason=f"the server refused while {doing}: {message}{detail}", hint=error.diag.message_hint or "")


def load_error(error: CommandFailed, info: ConnInfo) -> OpsError:
    """Why a load stopped. Nothing of the live database has been touched by it."""
    text = str(error.fields["stderr"])
    if role := _MISSING_ROLE.search(text):
        return _policy_of_nobody(role[1]) if "CREATE POLICY" in text[role.end() :] else missing_roles([role[1]])
    if extension := _MISSING_EXTENSION.search(text):
        return missing_extensions([extension[1]])
    if full := _FULL.search(text):
        return NoSpace(where=info.address, reason=full[0].strip())
    if newer := _NEWER.search(text):
        return Refused(
            reason=f"the archive is of version {newer[1]}, which this pg_restore cannot read: a newer pg_dump wrote it",
            hint="Restore into a server of at least the major version the backup was taken with.",
        )
    if lost := _LOST.search(text):
        return ServerUnreachable(address=info.address, reason=f"the connection was lost while loading: {lost[0].strip()}")
    if denied := _DENIED.search(text):
        return _denied(denied[0], statement(text[denied.start() :]), info)
    if missing := _MISSING.search(text):
        return Refused(reason=f"the backup does not load here: {missing[0]}", hint=first_error(text))
    return CommandFailed(**{**error.fields, "stderr": first_error(text)})


def first_error(text: str) -> str:
    """From the first line of ``text`` that tells of an error, a few lines: what --verbose says before it is left out.

    The failing statement is always among them, as far as pg_restore has told it.
    """
    start = _ERROR_LINE.search(text)
    text = text[start.start() if start else 0 :]
    told = "\n".join(text.splitlines()[:_LINES])
    failing = statement(text)
    return told if not failing or "Command was: " in told else f"{told}\nCommand was: {failing}"


def statement(text: str) -> str:
    """The first statement that pg_restore says has failed, on one line and not too long; empty when it says none."""
    found = _COMMAND.search(text)
    words = " ".join(found[1].split()) if found else ""
    return words if len(words) <= _STATEMENT_CHARACTERS else words[:_STATEMENT_CHARACTERS] + " ..."


def _denied(message: str, failing: str, info: ConnInfo) -> PrivilegeMissing:
    """The server carries out some statements with the rights of another role than the one connected."""
    action = f"load all of it: {message}"
    if not failing:
        return PrivilegeMissing(user=info.user or "(default)", action=action)
    return PrivilegeMissing(
        user=info.user or "(default)",
        action=f"{action}, at the statement: {failing}",
        hint="Connect as a role that may do this. If a superuser is refused: functions in indexes and materialized views run"
        " with the rights of the table's owner, GRANTs with those of the role that gave them, and that role lacks the right."
        " Restore with --no-owner --no-privileges now; later give it the right in the live database and take a new backup.",
    )


def missing_roles(names: list[str]) -> Refused:
    """The refusal that names roles."""
    return Refused(
        reason=f"this server has no role {', '.join(names)}, which the backup's objects belong to or have granted rights to",
        hint="Create them (globals.sql beside the backup does), or restore with --no-owner --no-privileges, which plain SQL"
        " does not allow.",
    )


def _policy_of_nobody(name: str) -> Refused:
    """Policies are no privileges: they come with their roles whatever the flags."""
    return Refused(
        reason=f"this server has no role {name}, which a row security policy of the backup names",
        hint="Create it (globals.sql beside the backup does; NOLOGIN is enough), then try again.",
    )


def missing_extensions(names: list[str]) -> Refused:
    """The refusal that names extensions."""
    return Refused(
        reason=f"this server has no extension {', '.join(names)}, which the backup needs",
        hint="Install its package on the server; CREATE EXTENSION is part of the backup.",
    )
