"""Maintenance on and off: by the configured commands; without one, connections are refused at the database itself.

Then ``ALTER DATABASE ... ALLOW_CONNECTIONS false`` keeps new sessions out, and those that are there are ended. A database that
is put in the live one's place accepts connections from the instant of the renames (:mod:`naap_ops.restore.publishing`).
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from naap_ops.postgres.session import maintenance
from naap_ops.procedure.step import Step
from naap_ops.restore import ready
from naap_ops.restore.failures import server_errors

if TYPE_CHECKING:
    from naap_ops.config.settings import MaintenanceSettings
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.rollback.commands import Surroundings

ON, OFF = "maintenance_on", "maintenance_off"


def refuse(info: ConnInfo) -> int:
    """Let no new session into the database and end those that are there, as far as this user may; how many were ended."""
    from psycopg import errors

    ended = 0
    _accept(info, accepted=False)
    with server_errors(info, "ending sessions"), closing(maintenance(info, avoid=(info.dbname,))) as session:
        query = "select a.pid from pg_stat_activity a where a.datname = %s and a.usesysid is not null order by a.pid"
        for (pid,) in session.execute(query, [info.dbname]).fetchall():
            with suppress(errors.InsufficientPrivilege):  # the renames name it, if it is still there then
                session.execute("select pg_terminate_backend(%s)", [pid])
                ended += 1
    return ended


def accept(info: ConnInfo) -> None:
    """Let sessions in again."""
    _accept(info, accepted=True)


def accepts(info: ConnInfo) -> bool:
    """Whether the database lets sessions in."""
    with server_errors(info, "asking for connections"), closing(maintenance(info, avoid=(info.dbname,))) as session:
        row = session.execute("select datallowconn from pg_database where datname = %s", [info.dbname]).fetchone()
    return row is not None and bool(row[0])


def _accept(info: ConnInfo, *, accepted: bool) -> None:
    from psycopg import sql

    statement = sql.SQL("alter database {} allow_connections {}").format(
        sql.Identifier(info.dbname or ""), sql.Literal(accepted)
    )
    with server_errors(info, "turning maintenance on or off"), closing(maintenance(info, avoid=(info.dbname,))) as session:
        session.execute(statement)


class _Maintenance(Step):
    def __init__(self, name: str, text: str, settings: MaintenanceSettings, around: Surroundings) -> None:
        super().__init__(name, text)
        self._settings = settings
        self._around = around

    @property
    def _by_database(self) -> bool:
        return not self._settings.on

    def done(self) -> bool:
        return self._around.journal.state(self.name) == "done"

    def halfway(self) -> bool:
        return True  # a command that failed may have done half of it; a database may refuse already

    def _on(self) -> dict[str, Any]:
        if self._by_database:
            self._around.journal.fact(ON, by="database")  # the settings may be others when it is gone on with
            return {"by": "database", "ended": refuse(self._around.info)}
        self._around.run(self.name, self._settings.on, self._settings.timeout.total_seconds())
        return {"by": "command"}

    def _off(self) -> dict[str, Any]:
        if self._by_database or self._around.journal.facts(ON).get("by") == "database":
            accept(self._around.info)
        if self._settings.off:
            self._around.run(self.name, self._settings.off, self._settings.timeout.total_seconds())
            return {"by": "command"}
        return {"by": "database" if self._by_database else "nobody"}


class MaintenanceOn(_Maintenance):
    """``undo`` turns it off."""

    def __init__(self, settings: MaintenanceSettings, around: Surroundings) -> None:
        how = "" if settings.on else ": connections are refused at the database"
        super().__init__(ON, f"maintenance on{how}", settings, around)

    def done(self) -> bool:
        if not self._by_database:
            return super().done()
        info, id = self._around.info, self._around.journal.id
        return not accepts(info) or ready.published(info, id) is not None

    def run(self) -> dict[str, Any]:
        return self._on()

    def undo(self) -> dict[str, Any]:
        return self._off()


class MaintenanceOff(_Maintenance):
    """``undo`` turns it on again by its command; the database itself lets sessions in, as it does since the swap."""

    def __init__(self, settings: MaintenanceSettings, around: Surroundings) -> None:
        super().__init__(OFF, "maintenance off", settings, around)

    def run(self) -> dict[str, Any]:
        return self._off()

    def undo(self) -> dict[str, Any]:
        return {} if self._by_database else self._on()
