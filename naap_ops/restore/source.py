"""What a whole database is restored from: a contract, and the backup behind it. Scripts: :mod:`naap_ops.restore.script`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from naap_ops.backup.engines.base import listed
from naap_ops.backup.loading import LoadOptions, load
from naap_ops.backup.manifest import Manifest, TableFact
from naap_ops.backup.repository import Backup
from naap_ops.errors import BackupDamaged, CommandFailed
from naap_ops.postgres.session import connect
from naap_ops.restore import gate, matviews
from naap_ops.restore.failures import load_error
from naap_ops.restore.hashes import FileCheck
from naap_ops.restore.outcome import RestoreOptions, described, size_text, totals

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.databases import DatabaseProps
    from naap_ops.postgres.session import Connection, ServerInfo
    from naap_ops.postgres.tools import Toolset

# Told how many tables and how many bytes of the archive are in.
Progress = Callable[[int, int], None]


class Source(Protocol):
    """A context manager; entering it looks at the files."""

    name: str
    """A backup's id or a script's file name: what the marks say."""
    text: str
    """For people."""
    props: DatabaseProps | None
    """What the database was besides its content, where that is known."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def gate(self, connection: Connection, server: ServerInfo, options: RestoreOptions, *, replaces: bool) -> list[str]:
        """Raise whatever would make it fail; return what people should know. ``replaces``: a live database is to give way."""

    def load(self, info: ConnInfo, options: RestoreOptions, progress: Progress) -> None:
        """Fill the empty database ``info`` names."""

    def tables(self, connection: Connection) -> Sequence[TableFact]:
        """The tables whose rows must be there, as many as they say."""

    def lacking(self, info: ConnInfo) -> list[str]:
        """What it promises and the database that was filled from it does not have, as far as that can be known."""

    def proven(self) -> None:
        """Return when everything that was read is known to be undamaged. Raises BackupDamaged."""


class BackupSource:
    """A backup."""

    def __init__(self, backup: Backup, tools: Toolset) -> None:
        self.manifest = gate.usable(backup)
        self.name = backup.id
        self.text = f"{described(self.manifest)}: {totals(self.manifest.tables)}, {size_text(self.manifest.bytes)} in files"
        self.props = recorded(self.manifest)
        self._backup = backup
        self._tools = tools
        self._stack = ExitStack()
        self._folder = Path()
        self._check: FileCheck

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = stack.enter_context(self._backup.storage.local(self._backup.prefix))
            names = [fact.path for fact in self.manifest.files]
            self._check = stack.enter_context(FileCheck(self._folder, self.manifest, names))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def gate(self, connection: Connection, server: ServerInfo, options: RestoreOptions, *, replaces: bool) -> list[str]:
        gate.whole(self.manifest, options, replaces=replaces)
        major = int(self.manifest.server["version_num"]) // 10000
        gate.server(connection, server, major, f"backup {self.name}")
        if self.manifest.format == "plain" and self.manifest.structure is None:
            gate.plain(options, f"backup {self.name}")
        gate.requirements(connection, self.manifest, options)
        if self.manifest.format != "plain":
            self._read_contents()
        return list(self._notes())

    def _read_contents(self) -> None:
        """That the tools can read the archive shows when they list it."""
        for archive in filter(None, (self.manifest.archive, self.manifest.structure)):
            try:
                listed(self._tools, self._folder / archive)
            except CommandFailed as error:
                raise load_error(error, _nowhere()) from error

    def _notes(self) -> Iterator[str]:
        scope = self.manifest.scope
        if not scope.whole:
            yield f"the backup holds rows of {scope.text()} only; other tables will be empty, foreign keys are left out"
        elif scope.exclude_table_data:
            yield f"tables without rows in the backup: {', '.join(scope.exclude_table_data)}"

    def load(self, info: ConnInfo, options: RestoreOptions, progress: Progress) -> None:
        from naap_ops.restore import restricted

        sizes = {Path(fact.path).name.split(".")[0]: fact.bytes for fact in self.manifest.files}
        done = [0, 0]

        def on_data(dump_id: int | None) -> None:
            done[0] += 1
            done[1] += sizes.get(str(dump_id), 0)
            progress(done[0], done[1])

        chosen = LoadOptions(
            jobs=options.jobs,
            owner=options.owner,
            privileges=options.privileges,
            session=options.session(),
            on_data=on_data,
            through=restricted.wrapper(self._tools) if self.manifest.format == "plain" else None,
        )
        try:
            self._check.found_sound(load(self._folder, self.manifest, self._tools, info, chosen))
        except CommandFailed as error:
            self.proven()  # damaged files explain a load that failed better than its own words
            raise load_error(error, info) from error
        if self.manifest.kind == "data":
            with closing(connect(info)) as connection:
                matviews.refresh(connection)

    def tables(self, connection: Connection) -> Sequence[TableFact]:  # noqa: ARG002
        return [table for table in self.manifest.tables if table.rows is not None]

    def lacking(self, info: ConnInfo) -> list[str]:
        """Raises CommandFailed. Of a plain script, or from a server of another major, nothing is known."""
        from naap_ops.restore import promised

        same = int(self.manifest.server["version_num"]) // 10000 == self._tools.major
        if self.manifest.format == "plain" or self.manifest.structure is not None or not same:
            return []
        return promised.lacking(self._folder / self.manifest.archive, self._tools, info)

    def proven(self) -> None:
        self._check.passed()


def recorded(manifest: Manifest) -> DatabaseProps | None:
    """The properties of the database in a manifest, None when it does not hold them."""
    import dataclasses

    from naap_ops.postgres.databases import DatabaseProps, Grant

    raw: dict[str, Any] = {f.name: manifest.database.get(f.name) for f in dataclasses.fields(DatabaseProps)}
    if raw["encoding"] is None or raw["settings"] is None:
        return None
    acl = raw["acl"]
    raw["acl"] = None if acl is None else tuple(Grant(**grant) for grant in acl)
    raw["settings"] = tuple((role, setting) for role, setting in raw["settings"])
    return DatabaseProps(**raw)


def _nowhere() -> ConnInfo:
    from naap_ops.postgres.conninfo import ConnInfo

    return ConnInfo(host=None, port=None, user=None, dbname=None)


def not_as_promised(source: Source, problems: Sequence[str]) -> BackupDamaged:
    """What was loaded is not what the manifest or the script says."""
    return BackupDamaged(id=source.name, problems="; ".join(problems[:10]))
