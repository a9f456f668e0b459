"""Running PostgreSQL as root: whom to become, and where that user can read and write.

PostgreSQL refuses to run as root, so a scratch server started by root runs as ``postgres`` or ``nobody``. That user often
cannot reach what root can: a wheel installed below ``/root``, a work folder of mode 0700. This module finds out by asking the
kernel in that user's name, and makes a reachable copy (hard links where possible) of what is not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naap_ops import process
from naap_ops.errors import CommandFailed, ConfigurationError, StorageError, ToolMissing

_ROOT = Path("/")
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - private folders are made below them
_CANDIDATES = ("postgres", "nobody")
_OPEN_DIR = 0o755
_OPEN_PROGRAM = 0o755
_OPEN_FILE = 0o644


@dataclass(frozen=True)
class Account:
    """Who runs the server. ``uid`` is None when that is simply the current user."""

    name: str
    uid: int | None = None
    gid: int | None = None

    def options(self) -> dict[str, Any]:
        """Arguments for :func:`process.start`. The working folder of the caller may be out of reach, so it is ``/``."""
        return {"cwd": _ROOT, "user": self.uid, "group": self.gid}

    def own(self, path: Path) -> None:
        """Give ``path`` to this account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_write(self, folder: Path) -> bool:
        """Whether this account can enter ``folder`` and write there."""
        return self._succeeds(["/bin/sh", "-c", 'cd "$1" && [ -w . ]', "sh", folder])

    def can_run(self, program: Path) -> bool:
        """Whether ``program --version`` works for this account: found, readable, its libraries too."""
        return self._succeeds([program, "--version"])

    def _succeeds(self, argv: list[str | Path]) -> bool:
        try:
            process.run(argv, **self.options())
        except (CommandFailed, ToolMissing):
            return False
        return True


def account() -> Account:
    """The current user, or for root an unprivileged one. Raises ConfigurationError when the system has none."""
    if os.geteuid() != 0:
        return _current()
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ConfigurationError(
        detail="PostgreSQL does not run as root, and this system has no user to run it as",
        hint="Create a user named postgres, or run as an ordinary user.",
    )


def _current() -> Account:
    """initdb looks up who runs it, and containers are run by numbers that nobody has told the system a name for."""
    uid = os.geteuid()
    try:
        return Account(name=pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise ConfigurationError(
            detail=f"user id {uid} has no name on this system, and PostgreSQL's initdb wants one",
            hint="Give it a line in /etc/passwd, run as a user who has one, or set scratch_url to a server for trials.",
        ) from None


def temporary_place(who: Account, prefix: str = "naap_ops-") -> Path:
    """A new private folder that belongs to ``who``, in the first temporary folder which that account can reach."""
    for parent in dict.fromkeys((tempfile.gettempdir(), *_TEMPORARY)):
        try:
            place = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError:
            continue
        who.own(place)
        if who.can_write(place):
            return place
        place.rmdir()
    raise StorageError(url=tempfile.gettempdir(), reason=f"no temporary folder that user {who.name} can write to")


def copy_installation(bindir: Path, into: Path) -> Path:
    """A copy of the installation around ``bindir``, readable by everybody who reaches ``into``. Returns its bin folder.

    The layout is kept: programs find ``../share`` by their own path, and those of a wheel find their libraries in
    ``<package>.libs`` beside the package (auditwheel's convention).
    """
    installation = bindir.resolve().parent
    package = installation.parent
    home = into / package.name
    home.mkdir(parents=True)
    _link_tree(installation, home / installation.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        _link_tree(libraries, into / libraries.name)
    for folder in (into, home):
        folder.chmod(_OPEN_DIR)
    return home / installation.name / bindir.name


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
    for folder, _, _ in os.walk(target):
        os.chmod(folder, _OPEN_DIR)


def _link_or_copy(source: str, target: str) -> None:
    mode = stat.S_IMODE(os.lstat(source).st_mode)
    readable = _OPEN_PROGRAM if mode & stat.S_IXUSR else _OPEN_FILE
    if mode & readable == readable:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or one without hard links
    shutil.copyfile(source, target)
    os.chmod(target, readable)
