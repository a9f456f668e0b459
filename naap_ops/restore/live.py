"""One transaction in the live database, in which a schema or a table is replaced, and what both need in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as server
from psycopg import sql

from naap_ops import clock
from naap_ops.errors import Blocked
from naap_ops.postgres.databases import derived_name
from naap_ops.postgres.session import connect
from naap_ops.restore.blockers import BlockerWatch
from naap_ops.restore.failures import missing_roles, server_error
from naap_ops.restore.fence import too_many_locks
from naap_ops.restore.locking import application_name, target_lock
from naap_ops.restore.outcome import RestoreOptions

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_SETTINGS = """
set search_path to ''; set row_security to off; set jit to off; set synchronous_commit to on;
set maintenance_work_mem to {}; set lock_timeout to {}
"""


@contextmanager
def live_transaction(info: ConnInfo, options: RestoreOptions, doing: str) -> Iterator[Connection]:
    """A transaction in the live database, under its restore lock; committed when the block ends well, else rolled back.

    Raises Busy, Blocked (naming who was in the way), PrivilegeMissing, Refused, ServerUnreachable.
    """
    assert info.dbname is not None
    with (
        target_lock(info, info.dbname),
        closing(connect(info, application_name=application_name(), autocommit=False)) as connection,
        BlockerWatch(info, connection.info.backend_pid) as watch,
    ):
        try:
            timeout = sql.Literal(f"{options.lock_timeout * 1000:.0f}ms")
            connection.execute(sql.SQL(_SETTINGS).format(sql.Literal(options.maintenance_work_mem), timeout))
            yield connection
            connection.commit()
        except (server.LockNotAvailable, server.DeadlockDetected) as error:
            blockers = "; ".join(watch.seen) or error.diag.message_detail or str(error.diag.message_primary)
            raise Blocked(what=doing, blockers=blockers) from error
        except server.OutOfMemory as error:
            raise too_many_locks(error, doing) or server_error(error, info, doing) from error
        except server.UndefinedObject as error:
            if (error.diag.message_primary or "").startswith("role "):
                raise missing_roles([(error.diag.message_primary or "").split('"')[1]]) from error
            raise server_error(error, info, doing) from error
        except psycopg.Error as error:
            raise server_error(error, info, doing) from error


def free_schema_name(connection: Connection, base: str | None, role: str) -> str:
    """``<base>__<role>_<time>``, or for a table ``naap_ops_<role>_<time>``: now or, if that is taken, a little later."""
    moment = clock.now()
    while schema_oid(connection, name := _name(base, role, moment)) is not None:
        moment += timedelta(seconds=1)
    return name


def _name(base: str | None, role: str, moment: datetime) -> str:
    return f"naap_ops_{role}_{clock.stamp(moment)}" if base is None else derived_name(base, role, moment)


def schema_oid(connection: Connection, name: str) -> int | None:
    """The schema's oid, or None."""
    row = connection.execute("select oid::bigint from pg_namespace where nspname = %s", [name]).fetchone()
    return None if row is None else int(row[0])


def comment_on_schema(connection: Connection, name: str, text: str | None) -> None:
    """Set a schema's comment."""
    connection.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(name), sql.Literal(text)))


def analyze(connection: Connection, relations: Sequence[tuple[str, str]]) -> None:
    """Gather statistics, inside the transaction: whoever comes after the commit finds them there."""
    if relations:
        names = sql.SQL(", ").join(sql.Identifier(*relation) for relation in relations)
        connection.execute(sql.SQL("analyze {}").format(names))
