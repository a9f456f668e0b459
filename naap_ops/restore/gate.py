"""Everything that would make a restore fail later, asked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naap_ops.backup.manifest import Manifest
from naap_ops.backup.repository import Backup
from naap_ops.errors import BackupDamaged, DatabaseMissing, PrivilegeMissing, Refused
from naap_ops.postgres.catalog.extensions import unavailable
from naap_ops.postgres.catalog.roles import missing_roles as absent_roles
from naap_ops.restore.failures import missing_extensions, missing_roles
from naap_ops.restore.outcome import RestoreOptions

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection, ServerInfo


def usable(backup: Backup) -> Manifest:
    """The manifest of a backup that may be restored. Raises BackupDamaged for one that was found bad, NewerFormat."""
    manifest = backup.sound
    if backup.bad:
        problems = backup.checks[-1].data.get("problems") or ["a check of it failed"]
        raise BackupDamaged(
            id=backup.id,
            problems="; ".join(map(str, problems)),
            hint="Restore another one. `invoke backup.verify` looks at this one again.",
        )
    return manifest


def whole(manifest: Manifest, options: RestoreOptions, *, replaces: bool) -> None:
    """Refuse what would make a database with less in it than the one it replaces: another schema's tables, rows left out."""
    if options.partial or not replaces:
        return
    if manifest.kind == "schema":
        raise Refused(
            reason="the backup holds no rows (kind schema): the database would be empty", hint="Restore it --into a new one."
        )
    if not manifest.scope.whole:
        raise Refused(
            reason=f"the backup holds only {manifest.scope.text()}: everything else would be gone",
            hint="Restore that part with --schema, --tenant or --table, or --into a new database.",
        )
    if manifest.scope.exclude_table_data:
        without = ", ".join(manifest.scope.exclude_table_data)
        raise Refused(
            reason=f"the backup was taken without the rows of {without}: they would be gone",
            hint="Restore it --into a new database and copy those rows, or restore schema by schema.",
        )


def server(connection: Connection, server: ServerInfo, major: int, what: str) -> None:
    """The server can hold it. Raises Refused for a standby and for a major older than the one ``what`` comes from."""
    if server.in_recovery:
        raise Refused(reason=f"the server at {connection.info.host} is a standby: it cannot be written to")
    if server.major < major:
        raise Refused(
            reason=f"{what} comes from PostgreSQL {major}, the server is {server.version}: an older server cannot take it in",
            hint=f"Restore into a server of major {major} or newer.",
        )


def may_create(server: ServerInfo) -> None:
    """Raises PrivilegeMissing without CREATEDB."""
    if not server.can_createdb:
        raise PrivilegeMissing(
            user=server.user,
            action="create databases (CREATEDB)",
            hint=f'ALTER ROLE "{server.user}" CREATEDB; or restore one schema or table, which needs no new database.',
        )


def plain(options: RestoreOptions, what: str) -> None:
    """Raises Refused where owners or rights are to be left out of plain SQL: psql carries out all that is there."""
    wanted = {"--no-owner": options.owner, "--no-privileges": options.privileges}
    flags = [flag for flag, kept in wanted.items() if not kept]
    if flags:
        raise Refused(
            reason=f"{what} is plain SQL, from which {' and '.join(flags)} can leave nothing out",
            hint="Create the roles that it names (NOLOGIN is enough) and restore it as it is.",
        )


def requirements(connection: Connection, manifest: Manifest, options: RestoreOptions) -> None:
    """Roles and extensions that the backup names are on this server. Raises Refused."""
    if options.owner or options.privileges:
        absent = absent_roles(connection, manifest.roles)
        if absent:
            raise missing_roles(absent)
    lacking = unavailable(connection, [extension["name"] for extension in manifest.extensions])
    if lacking:
        raise missing_extensions(lacking)


@dataclass(frozen=True)
class Live:
    """The database that is to be replaced: its size in bytes (None where it may not be asked), and who is connected to it."""

    name: str
    bytes: int | None
    sessions: Sequence[str]
    notes: Sequence[str]


def live(connection: Connection, server: ServerInfo, name: str) -> Live | None:
    """The database to be replaced; None when there is none. Raises PrivilegeMissing, Refused for what would stop the swap."""
    row = connection.execute(
        "select oid, pg_has_role(datdba, 'USAGE'),"
        " case when has_database_privilege(oid, 'CONNECT') then pg_database_size(oid) end from pg_database where datname = %s",
        [name],
    ).fetchone()
    if row is None:
        return None
    oid, owned, size = row
    if not owned:
        raise PrivilegeMissing(user=server.user, action=f"rename database {name!r}: it is not its owner")
    prepared = [gid for (gid,) in connection.execute("select gid from pg_prepared_xacts where database = %s", [name])]
    if prepared:
        raise Refused(
            reason=f"database {name!r} has prepared transactions: {', '.join(map(repr, prepared))}",
            hint="COMMIT PREPARED or ROLLBACK PREPARED them, then try again.",
        )
    return Live(name, size, _sessions(connection, oid), _notes(connection, oid, name))


def existing(connection: Connection, info: ConnInfo, name: str) -> None:
    """Raises DatabaseMissing."""
    if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
        raise DatabaseMissing(database=name, address=info.address)


def _sessions(connection: Connection, oid: int) -> list[str]:
    query = """
    select coalesce(nullif(application_name, ''), 'unnamed') || ' of ' || usename, count(*) from pg_stat_activity
    where datid = %s and usesysid is not null group by 1 order by 2 desc, 1
    """
    return [f"{count} x {who}" for who, count in connection.execute(query, [oid])]


def _notes(connection: Connection, oid: int, name: str) -> list[str]:
    """What stays with the old database and does not come along."""
    slots = [s for (s,) in connection.execute("select slot_name from pg_replication_slots where database = %s", [name])]
    row = connection.execute("select exists (select subdbid from pg_subscription where subdbid = %s)", [oid]).fetchone()
    notes = [f"replication slots stay with the old database: {', '.join(slots)}"] if slots else []
    return notes + (["subscriptions stay with the old database and go on writing into it"] if row and row[0] else [])
