"""A PostgreSQL server of our own for as long as a block lasts: restores are tried in it, demonstration and tests run on it.

Everything it writes is below one folder (the *place*): ``<workdir>/server``, or a temporary folder when the user that runs the
server cannot reach the work folder (see :mod:`naap_ops.postgres.unprivileged`). What is where is recorded in
``<workdir>/scratch.json``, so that a run that was killed is cleaned up by the next one in the same work folder.
Durability is off: such a server holds copies only.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from naap_ops import process
from naap_ops.errors import CommandFailed, NoSpace, OpsError, ToolMissing
from naap_ops.files import PRIVATE_DIR, write_durably
from naap_ops.lock import FileLock
from naap_ops.postgres import postmaster, unprivileged
from naap_ops.postgres.conninfo import ConnInfo

LOOPBACK = "127.0.0.1"
DEFAULTS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_CONFIG = "scratch.conf"
_SOCKET_PATH_BYTES = 107  # sun_path of Linux, without its final zero
_SOCKET_NAME = ".s.PGSQL.65535.lock"
_READY_SECONDS = 60.0
_POLL_SECONDS = 0.005
_REMOVE_SECONDS = 10.0
_ATTEMPTS = 5
_PORT_TAKEN = "could not create any TCP/IP sockets"  # between our look and the start
_WORKDIR_MODE = 0o711  # when made here: the server's user must pass through it; what is below is private
_CERTIFICATE_DAYS = "30"


class ScratchServer:
    """``with ScratchServer(bindir, workdir) as server:`` runs a server; leaving the block stops it and removes its data.

    ``config``: further settings of postgresql.conf, over :data:`DEFAULTS`. ``auth``: the method of every line of pg_hba.conf;
    anything but ``trust`` needs ``password``. ``tcp``: listen on 127.0.0.1 as well, on a free port. ``tls``: offer TLS with a
    self-signed certificate, :attr:`certificate`. Raises ToolMissing, CommandFailed with the tail of the server's log, NoSpace,
    and Busy when another living process has a server in the same work folder.
    """

    info: ConnInfo
    """How to reach its database ``postgres``; set by :meth:`start`. TCP if ``tcp``, else the socket."""
    place: Path
    socket_dir: Path
    port: int = 5432

    def __init__(
        self,
        bindir: Path,
        workdir: Path,
        *,
        config: Mapping[str, str] | None = None,
        superuser: str = "postgres",
        auth: str = "trust",
        password: str | None = None,
        tls: bool = False,
        tcp: bool = False,
    ) -> None:
        self.bindir = bindir
        self.workdir = workdir.absolute()
        self.superuser = superuser
        self._config = {**DEFAULTS, **(config or {})}
        self._auth, self._password = auth, password
        self._tls, self._tcp = tls, tcp or tls
        self._account = unprivileged.account()
        self._record = self.workdir / "scratch.json"
        self._lock = FileLock(self.workdir / "scratch.lock", what=f"a scratch server in {self.workdir}")
        self._child: process.Child | None = None
        self._open = ExitStack()
        self._prepared = False

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server and wait until it accepts connections. The first time, make its data directory."""
        if self.pid is not None:
            return
        self.stop()
        if not self._prepared:
            self._prepare()
        for attempt in range(1, _ATTEMPTS + 1):
            self._configure()
            try:
                self._launch()
                break
            except CommandFailed as failure:
                if attempt == _ATTEMPTS or _PORT_TAKEN not in failure.text:
                    raise
        host = LOOPBACK if self._tcp else str(self.socket_dir)
        self.info = ConnInfo(
            host=host, port=self.port, user=self.superuser, dbname="postgres", password=self._password, source="scratch server"
        )

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, the data stays. Harmless on a stopped server."""
        self._end(postmaster.STOP)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); :meth:`start` recovers it."""
        self._end(postmaster.KILL)

    def remove(self) -> None:
        """Stop it and remove all it wrote."""
        self.stop()
        if self._prepared:
            self._sweep()
            self._lock.path.unlink(missing_ok=True)
            self._lock.release()
            self._prepared = False

    def __enter__(self) -> ScratchServer:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    # --- facts ----------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.place / "data"

    @property
    def certificate(self) -> Path:
        """The server's own certificate, for ``sslrootcert``; there when ``tls``."""
        return self.data / "server.crt"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return self._child.stderr_tail if self._child is not None else ""

    # --- preparing ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if not (self.bindir / "initdb").is_file():
            raise ToolMissing(
                tool="initdb", major="?", searched=f"{self.bindir} is not the bin folder of a server installation"
            )
        self.workdir.mkdir(mode=_WORKDIR_MODE, parents=True, exist_ok=True)
        self._lock.acquire()
        self._prepared = True
        self._sweep()
        self.place = self._make_place()
        self.socket_dir = self._make_socket_dir()
        if not self._account.can_run(self.bindir / "postgres"):
            self.bindir = unprivileged.copy_installation(self.bindir, self.place / "installation")
        self._initdb()
        if self._tls:
            self._make_certificate()

    def _remember(self, folder: Path) -> Path:
        folders = [*self._remembered(), folder]
        write_durably(self._record, json.dumps([str(each) for each in folders]).encode())
        return folder

    def _remembered(self) -> list[Path]:
        try:
            return [Path(each) for each in json.loads(self._record.read_bytes())]
        except FileNotFoundError:
            return []

    def _make_place(self) -> Path:
        place = self._remember(self.workdir / "server")
        place.mkdir(mode=PRIVATE_DIR)
        self._account.own(place)
        if self._account.can_write(place):
            return place
        return self._remember(unprivileged.temporary_place(self._account))

    def _make_socket_dir(self) -> Path:
        if len(os.fsencode(self.place / _SOCKET_NAME)) <= _SOCKET_PATH_BYTES:
            return self.place
        return self._remember(unprivileged.temporary_place(self._account, prefix="s-"))

    def _initdb(self) -> None:
        argv: list[str | Path] = [self.bindir / "initdb", "-D", self.data, "-U", self.superuser, "-A", self._auth]
        argv += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        secret = self.place / "pwfile"
        if self._password is not None:
            write_durably(secret, self._password.encode() + b"\n")
            self._account.own(secret)
            argv.append(f"--pwfile={secret}")
        try:
            process.run(argv, **self._account.options())
        except CommandFailed as failure:
            raise self._explained(failure) from None
        finally:
            secret.unlink(missing_ok=True)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(f"\ninclude '{_CONFIG}'\n")

    def _make_certificate(self) -> None:
        key = self.data / "server.key"
        names = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{LOOPBACK}"]
        argv: list[str | Path] = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            _CERTIFICATE_DAYS,
            *names,
        ]
        process.run([*argv, "-keyout", key, "-out", self.certificate])
        for file in (key, self.certificate):
            file.chmod(0o600)
            self._account.own(file)

    # --- running --------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        if self._tcp:
            self.port = free_port()
        settings = {
            **self._config,
            "listen_addresses": LOOPBACK if self._tcp else "",
            "port": str(self.port),
            "unix_socket_directories": '"{}"'.format(str(self.socket_dir).replace('"', '""')),
            "ssl": "on" if self._tls else "off",
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        path = self.data / _CONFIG
        path.write_text("".join(lines), encoding="utf-8")
        self._account.own(path)

    def _launch(self) -> None:
        argv: list[str | Path] = [self.bindir / "postgres", "-D", self.data]
        # The language of messages is lc_messages' business alone.
        self._child = self._open.enter_context(process.start(argv, env={"LANGUAGE": ""}, **self._account.options()))
        deadline = time.monotonic() + _READY_SECONDS
        while not postmaster.is_ready(self.data, self._child.pid):
            status = self._child.poll()
            if status is not None or time.monotonic() > deadline:
                failure = self._child.failure(self._child.wait()) if status is not None else self._child.failure(-1)
                self.stop()
                raise self._explained(failure)
            time.sleep(_POLL_SECONDS)

    def _end(self, signals: postmaster.Signals) -> None:
        child = self._child
        if child is None:
            return
        postmaster.signal_until(child.pid, signals, gone=lambda: child.poll() is not None)
        self._child = None
        self._open.close()

    def _explained(self, failure: CommandFailed) -> OpsError:
        if "No space left on device" in failure.text:
            return NoSpace(where=self.place, reason=f"{failure.fields['tool']} of a scratch server")
        return failure

    def _sweep(self) -> None:
        """End and remove what this work folder's record names: this run's server, or that of a run that was killed."""
        for folder in self._remembered():
            postmaster.end_left_over(folder / "data")
            _remove(folder)
        self._record.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a folder into which the children of a killed postmaster may write for another moment."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _quoted(value: str) -> str:
    """A value of postgresql.conf."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
