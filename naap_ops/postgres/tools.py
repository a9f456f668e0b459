"""The client tools of the server's own major version: found, asked what they can do, and turned into commands.

An older pg_dump refuses a newer server, and a newer one writes what an older server does not understand, so the exact major is
wanted. What a build can do (TLS, zstd, lz4) is asked of the binary: both are judged before a connection is tried.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from naap_ops import process
from naap_ops.errors import CapabilityMissing, CommandFailed, ServerUnreachable, ToolMismatch, ToolMissing
from naap_ops.postgres import installed, remote
from naap_ops.postgres.installed import installations, server_bindir

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo

__all__ = ["TOOLS", "Command", "ToolsSettings", "Toolset", "find_tools", "installations", "server_bindir"]

TOOLS = ("pg_dump", "pg_restore", "psql")

_NOWHERE = {"LC_ALL": "C", "PGHOST": "/nonexistent", "PGPORT": "1", "PGDATABASE": "nonexistent"}
_CONNECTING = re.compile(r"connect(ion)? to server")
# 16 and newer (a build without it, a method unknown to this major); 15 and older; libpq without TLS.
_REFUSALS = (
    "does not support compression",
    "unrecognized compression algorithm",
    "not available in this installation",
    "not compiled in",
)
_TLS_DEMANDED = ("require", "verify-ca", "verify-full")


class ToolsSettings(Protocol):
    """What this room reads of the settings: the table ``tools``."""

    @property
    def bindir(self) -> Path | None: ...
    @property
    def exec(self) -> Sequence[str]: ...
    @property
    def exec_host(self) -> str | None: ...
    @property
    def exec_port(self) -> int | None: ...


@dataclass(frozen=True)
class Command:
    """A command for :mod:`naap_ops.process`. ``preamble`` must be written to its standard input before anything else."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    preamble: bytes = b""


@dataclass(frozen=True)
class Toolset:
    """pg_dump, pg_restore and psql of one major, here (``bindir``) or through ``prefix`` at the other end."""

    major: int
    version: str
    bindir: Path | None
    prefix: tuple[str, ...]
    origin: str
    """Who provided it: ``PATH``, a folder, ``wheel <name>``, ``tools.bindir``, ``tools.exec``."""
    host: str | None = None
    port: int | None = None

    @property
    def remote(self) -> bool:
        """Whether the tools run elsewhere: files here are not files there."""
        return bool(self.prefix)

    @property
    def place(self) -> str:
        """Folder or prefix, for messages."""
        return shlex.join(self.prefix) if self.remote else str(self.bindir)

    def command(self, tool: str, args: Sequence[str], info: ConnInfo, *, files: Mapping[str, bytes] | None = None) -> Command:
        """``tool args`` connected to ``info``. No secret is in argv.

        ``files`` (remote only): contents that the word ``@files/NAME`` of ``args`` stands for; here pass real paths.
        """
        if self.remote:
            words = remote.environment_words(info.tool_env(), host=self.host, port=self.port)
            argv = remote.argv(self.prefix, words, tool, args)
            return Command(argv=argv, env={}, preamble=remote.preamble(info.password, files or {}))
        if files:
            raise ValueError("files travel to remote tools only")
        return Command(argv=(*self._words(tool), *args), env=info.tool_env())

    def supports_compression(self, method: str) -> bool:
        """Whether pg_dump can write ``gzip``, ``zstd``, ``lz4``; ``none`` always. Major 15 and older know gzip alone."""
        if method == "none":
            return True
        if self.major < 16 and method != "gzip":
            return False
        return self._accepts("-Fc", "--compress=6" if self.major < 16 else f"--compress={method}")

    def supports_tls(self) -> bool:
        """Whether the tools were built with TLS."""
        return self._accepts(PGSSLMODE="require")

    def check(self, info: ConnInfo, *, compression: str = "none") -> None:
        """Raises CapabilityMissing when ``info`` demands TLS or ``compression`` is asked for and the build lacks it."""
        instead = "put the tools beside the server (tools.exec), or relax sslmode in the URL"
        local = self.remote and not self.host
        if info.params.get("sslmode") in _TLS_DEMANDED and not local and not self.supports_tls():
            raise CapabilityMissing(tool="pg_dump", path=self.place, capability="TLS", instead=instead)
        if not self.supports_compression(compression):
            raise CapabilityMissing(
                tool="pg_dump", path=self.place, capability=compression, instead="--compression gzip, or auto"
            )

    def reach(self, info: ConnInfo) -> None:
        """Raises ServerUnreachable when tools at the other end do not get to the database ``info`` from there.

        The toolkit's own sessions start here, the tools there: an address that is right here may lead nowhere from inside.
        """
        if not self.remote:
            return
        command = self.command("psql", ["-X", "-q", "-A", "-t", "--no-password", "--command=SELECT 1"], info)
        status, _, said = process.run(command.argv, env=command.env, input=command.preamble, check=False)
        if status == 0:
            return
        inside = f"{self.host or 'its own default (a local socket)'}, port {self.port or 'its own default'}"
        raise ServerUnreachable(
            address=f"{info.address} through {self.place}",
            reason=f"from inside, psql tried {inside}: {said}",
            hint="Set tools.exec_host and tools.exec_port to the server's address as seen from inside the container;"
            " the URL's host and port are for this side only.",
        )

    def _words(self, tool: str) -> tuple[str, ...]:
        return (str(self.bindir / tool),) if self.bindir is not None else (*self.prefix, tool)

    def _accepts(self, *options: str, **environment: str) -> bool:
        """Whether pg_dump gets as far with these as trying to connect: options and build are judged before that."""
        # By `env`, because only argv reaches the other end of a prefix.
        words = [f"{name}={value}" for name, value in {**_NOWHERE, **environment}.items()]
        return _asked((*self.prefix, "env", *words, *(self._words("pg_dump")[len(self.prefix) :]), *options))


# --- finding --------------------------------------------------------------------------------------------------------


def find_tools(major: int, settings: ToolsSettings) -> Toolset:
    """The tools for a server of ``major``: ``tools.exec``, ``tools.bindir``, PATH, the system's packages, the wheels.

    Raises ToolMismatch when a configured place holds another major, ToolMissing when no place has all three tools.
    """
    if settings.exec:
        return _remote_tools(major, settings)
    if settings.bindir is not None:
        return _configured_tools(major, settings.bindir.expanduser().absolute())
    for bindir, origin in installed.places((major,)):
        versions = [installed.version_of(bindir / tool) for tool in TOOLS]
        if all(version is not None and version[0] == major for version in versions):
            return Toolset(major=major, version=_text(versions[0]), bindir=bindir, prefix=(), origin=origin)
    raise ToolMissing(tool="pg_dump", major=major, searched=installed.what_is_there())


def _configured_tools(major: int, bindir: Path) -> Toolset:
    versions = {tool: installed.version_of(bindir / tool) for tool in TOOLS}
    for tool, version in versions.items():
        if version is None:
            raise ToolMissing(tool=tool, major=major, searched=f"tools.bindir = {bindir} has none that runs")
    _demand_major(major, ((tool, version) for tool, version in versions.items() if version), place=str(bindir))
    return Toolset(major=major, version=_text(versions["pg_dump"]), bindir=bindir, prefix=(), origin="tools.bindir")


def _remote_tools(major: int, settings: ToolsSettings) -> Toolset:
    prefix = tuple(settings.exec)
    answers = _remote_versions(prefix)
    if isinstance(answers, str):
        raise ToolMissing(
            tool="pg_dump",
            major=major,
            searched=f"tools.exec = {shlex.join(prefix)} says: {answers}",
            hint="Does the container run, and does it hold the client tools? Try the prefix by hand with `pg_dump --version`.",
        )
    _demand_major(major, zip(TOOLS, answers, strict=True), place=shlex.join(prefix))
    return Toolset(
        major=major,
        version=answers[0][1],
        bindir=None,
        prefix=prefix,
        origin="tools.exec",
        host=settings.exec_host,
        port=settings.exec_port,
    )


def _text(version: tuple[int, str] | None) -> str:
    return version[1] if version else "unknown"


@functools.cache
def _remote_versions(prefix: tuple[str, ...]) -> tuple[tuple[int, str], ...] | str:
    """The versions of TOOLS at the other end, or what was said instead."""
    script = " && ".join(f"{tool} --version" for tool in TOOLS)
    try:
        _, output, _ = process.run([*prefix, "sh", "-c", script])
    except CommandFailed as failure:
        return str(failure.fields["stderr"])
    except ToolMissing as missing:
        return str(missing.fields["searched"])
    versions = [installed.parse_version(line) for line in output.decode("utf-8", "replace").splitlines()]
    known = tuple(version for version in versions if version)
    return known if len(known) == len(TOOLS) else output.decode("utf-8", "replace").strip()


def _demand_major(major: int, versions: Iterable[tuple[str, tuple[int, str]]], *, place: str) -> None:
    for tool, (found, text) in versions:
        if found == major:
            continue
        older = f"too old, {tool} refuses a server newer than itself"
        newer = f"too new, what {tool} {found} writes an older server may not understand"
        raise ToolMismatch(tool=tool, path=place, found=text, wanted=major, reason=older if found < major else newer)


# --- asking ---------------------------------------------------------------------------------------------------------


@functools.cache
def _asked(argv: tuple[str, ...]) -> bool:
    with process.start(argv) as child:
        status = child.wait()
        said = child.stderr_tail
    if any(refusal in said for refusal in _REFUSALS):
        return False
    if _CONNECTING.search(said):
        return True
    raise child.failure(status)
