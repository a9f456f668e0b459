"""Throwaway places: scratch databases in which backups are proved, and shadows on which migrations are tried.

Each is on a server that the settings name, beside the live database, or on a server of our own that ends with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from naap_ops.backup.manifest import Manifest
from naap_ops.backup.proving import lent_roles
from naap_ops.config.settings import Settings
from naap_ops.errors import ConfigurationError, PrivilegeMissing, ToolMissing
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.databases import create, drop, properties
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, ServerInfo, connect, maintenance, server_info
from naap_ops.postgres.tools import Toolset, find_tools, installations, server_bindir

# A plain script is loaded in one transaction, which locks every table and index it makes.
_SCRATCH_CONFIG = {"max_locks_per_transaction": "1024"}
_COMMON_MAJOR = 16


@dataclasses.dataclass(frozen=True)
class Target:
    """One database to work on: its alias in the repository, how to reach it, what its server is, the tools for it."""

    alias: str
    info: ConnInfo
    server: ServerInfo
    tools: Toolset


@dataclasses.dataclass(frozen=True)
class ShadowPlace:
    """An empty database to try migrations in. ``kind``: url, beside or embedded; ``tools`` finds the client tools for it."""

    kind: str
    info: ConnInfo
    server: ServerInfo
    tools: Callable[[], Toolset]


@dataclasses.dataclass(frozen=True)
class Places:
    """By the settings ``scratch_url``, ``shadow_database_url`` and ``reverse.shadow``."""

    settings: Settings

    @contextlib.contextmanager
    def scratch(self, manifest: Manifest) -> Iterator[tuple[ConnInfo, Toolset]]:
        """An empty database to prove a backup in: at scratch_url, else on a scratch server of the backup's major."""
        name = f"naap_ops_proof_{secrets.token_hex(6)}"
        with contextlib.ExitStack() as stack:
            info, tools = stack.enter_context(self._scratch_server(manifest))
            connection = stack.enter_context(maintenance(info))
            stack.enter_context(lent_roles(connection, manifest.roles))
            _create_scratch(connection, name, manifest)
            try:
                yield info.with_dbname(name), tools
            finally:
                drop(connection, name)

    @contextlib.contextmanager
    def _scratch_server(self, manifest: Manifest) -> Iterator[tuple[ConnInfo, Toolset]]:
        settings = self.settings
        here = settings.tools.model_copy(update={"exec": []})  # tools.exec leads to the live server
        if settings.scratch_url is not None:
            from naap_ops.postgres.url import parse_url

            info = parse_url(settings.scratch_url, source="scratch_url")
            with connect(info) as connection:
                server = server_info(connection)
            yield info, find_tools(server.major, here)
            return
        major = int(manifest.server["version_num"]) // 10000
        with (
            tempfile.TemporaryDirectory(prefix="naap_ops_") as folder,
            ScratchServer(server_bindir(major), Path(folder), config=_SCRATCH_CONFIG) as own,
        ):
            yield own.info, find_tools(major, here.model_copy(update={"bindir": None}))

    @contextlib.contextmanager
    def shadow(self, live: Target | None, *, major: int | None = None, like: str | None = None) -> Iterator[ShadowPlace]:
        """An empty database to try migrations in: by ``reverse.shadow`` the one of shadow_database_url, one beside the live
        one, or one on a server of our own. Beside it, it gets the encoding and the locale of the database ``like``.

        Raises PrivilegeMissing where there is none of the three; ConfigurationError.
        """
        from naap_ops.reverse import shadows

        settings = self.settings
        here = settings.tools.model_copy(update={"exec": []})
        wanted = settings.reverse.shadow
        if wanted == "url" or (wanted == "auto" and settings.shadow_database_url is not None):
            info = self._shadow_url()
            with shadows.given(info, live.info if live else None) as given:
                with connect(given) as connection:
                    server = server_info(connection)
                yield ShadowPlace("url", given, server, lambda: find_tools(server.major, here))
        elif wanted == "beside" or (wanted == "auto" and live is not None and _can_create(live.server)):
            if live is None:
                raise ConfigurationError(detail="a shadow beside the live database wants that to be reached: give --url")
            beside, tools = live, live.tools
            with shadows.beside(live.info, like) as info:
                yield ShadowPlace("beside", info, beside.server, lambda: tools)
        else:
            number = live.server.major if live else major or settings.reverse.major or default_major()
            with self._own_server(number, live) as info, shadows.beside(info) as made:
                with connect(made) as connection:
                    server = server_info(connection)
                local = here.model_copy(update={"bindir": None})
                yield ShadowPlace("embedded", made, server, lambda: find_tools(number, local))

    def _shadow_url(self) -> ConnInfo:
        from naap_ops.postgres.url import parse_url

        url = self.settings.shadow_database_url
        if url is None:
            raise ConfigurationError(
                detail="shadow_database_url is not set", hint="Set SHADOW_DATABASE_URL, or take another --shadow-server."
            )
        return parse_url(url, source="shadow_database_url")

    @contextlib.contextmanager
    def _own_server(self, major: int, live: Target | None) -> Iterator[ConnInfo]:
        """A server of our own, on which whoever the live database's user is may do everything."""
        try:
            bindir = server_bindir(major)
        except ToolMissing as missing:
            if live is None:
                raise
            raise PrivilegeMissing(
                user=live.server.user,
                action=f"create a shadow database on {live.info.address}, and no server of major {major} is installed here",
                hint=f"One of three: ALTER ROLE ... CREATEDB; SHADOW_DATABASE_URL, an empty database; {missing.advice}",
            ) from None
        with (
            tempfile.TemporaryDirectory(prefix="naap_ops_") as folder,
            ScratchServer(
                bindir, Path(folder), config=_SCRATCH_CONFIG, superuser=live.server.user if live else "postgres"
            ) as own,
        ):
            yield own.info

    @contextlib.contextmanager
    def history_server(self, workdir: Path) -> Iterator[ConnInfo]:
        """A server of our own for long work: that of a killed run is ended by the next one with the same ``workdir``."""
        bindir = server_bindir(self.settings.reverse.major or default_major())
        try:
            with ScratchServer(bindir, workdir, config=_SCRATCH_CONFIG) as own:
                yield own.info
        finally:
            with contextlib.suppress(OSError):
                workdir.rmdir()


def _can_create(server: ServerInfo) -> bool:
    return server.can_createdb and not server.in_recovery


def default_major() -> int:
    """The major of a server of our own where nothing says which. Raises ToolMissing."""
    there = installations()
    return _COMMON_MAJOR if _COMMON_MAJOR in there or not there else max(there)


def _create_scratch(connection: Connection, name: str, manifest: Manifest) -> None:
    """With the backup's encoding, and its locale if the scratch server knows that; else the server's own, else C.

    Raises ConfigurationError, PrivilegeMissing.
    """
    own = dataclasses.replace(properties(connection, "template0"), encoding=manifest.database["encoding"])
    locale = {field: manifest.database[field] for field in ("provider", "collate", "ctype", "locale", "icu_rules")}
    plainest: dict[str, Any] = {"provider": "libc", "collate": "C", "ctype": "C", "locale": None, "icu_rules": None}
    candidates = [dataclasses.replace(own, **locale), own, dataclasses.replace(own, **plainest)]
    for candidate in candidates:
        try:
            return create(connection, name, candidate)
        except ConfigurationError as error:
            failure = error
    raise failure
