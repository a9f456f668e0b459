"""Locks on what is replaced, so that a second look finds all that leans on it.

Who adds a foreign key or a view to a table holds a lock on that table until his commit. The first look cannot see what is not
committed; once the tables are locked there is nobody left who has anything uncommitted on them, and nobody can begin.
What needs no table (a function that takes a type as its argument) takes no lock in PostgreSQL, and cannot be kept out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import errors as server
from psycopg import sql

from naap_ops.errors import Refused

if TYPE_CHECKING:
    from naap_ops.postgres.session import Connection

# Views first, those on top of others before these: who reads one locks it before the tables below.
_RELATIONS: LiteralString = """
select n.nspname, c.relname, c.relkind in ('r', 'p'), pg_get_userbyid(c.relowner)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.oid = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by c.relkind in ('r', 'p'), case when c.relkind in ('r', 'p') then c.oid::bigint else -c.oid::bigint end
"""

# lock.c, NLOCKENTS, with a quarter on top for what LockManagerShmemSize and others leave; postinit.c, MaxBackends.
_CAPACITY: LiteralString = """
select (sum(setting::bigint)
  * (select setting::bigint from pg_settings where name = 'max_locks_per_transaction') * 5 / 4)::bigint
from pg_settings where name in ('max_connections', 'max_prepared_transactions', 'autovacuum_max_workers',
  'autovacuum_worker_slots', 'max_worker_processes', 'max_wal_senders')
"""

_COUNT: LiteralString = "select count(*) from pg_class where relnamespace = %s and relkind in ('r', 'p', 'v', 'm', 'f')"


def lock_table(connection: Connection, schema: str, table: str) -> None:
    """Keep everybody out of one table until the end of the transaction."""
    connection.execute(sql.SQL("lock table only {} in access exclusive mode").format(sql.Identifier(schema, table)))


def lock_schema(connection: Connection, oid: int) -> None:
    """Keep everybody out of the tables and views of a schema until the end of the transaction.

    LOCK TABLE on a view would lock the tables below it too, wherever they are, and knows no materialised view. Giving a view to
    the owner it has changes nothing and takes the same lock (tablecmds.c, ATExecChangeOwner).
    """
    relations = connection.execute(_RELATIONS, [oid]).fetchall()
    for schema, name, is_table, owner in relations:
        if not is_table:
            statement = sql.SQL("alter table {} owner to {}")
            connection.execute(statement.format(sql.Identifier(schema, name), sql.Identifier(owner)))
    tables = [sql.SQL("only {}").format(sql.Identifier(schema, name)) for schema, name, is_table, _ in relations if is_table]
    if tables:
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(tables)))


def room_for_locks(connection: Connection, made: int, live_oid: int | None) -> None:
    """Raises Refused where ``made`` new relations and the live schema's old ones are more than the server can lock at all.

    The lock table is everybody's: who fills it makes other sessions fail.
    """
    row = connection.execute(_COUNT, [live_oid or 0]).fetchone()
    capacity = connection.execute(_CAPACITY).fetchone()
    assert row is not None
    assert capacity is not None
    wanted = made + row[0]
    if wanted > capacity[0]:
        raise Refused(
            reason=f"this needs locks on at least {wanted:,} tables and indexes at once, the server has {capacity[0]:,}",
            hint="Raise max_locks_per_transaction (and restart the server), or restore the whole database (--swap).",
        )


def too_many_locks(error: server.OutOfMemory, doing: str) -> Refused | None:
    """The refusal for a server whose lock table is full; None when it is memory of another kind that is short."""
    if "max_locks_per_transaction" not in (error.diag.message_hint or ""):
        return None
    return Refused(
        reason=f"the server's lock table was full while {doing}: one transaction locks all that it makes or drops",
        hint="Raise max_locks_per_transaction (and restart the server). A restore of the whole database (--swap) needs fewer;"
        " kept tables can be dropped some hundred at a time by DROP TABLE, and the rest by restore.drop-old.",
    )
