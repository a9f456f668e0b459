"""The git work tree that a migrations folder lies in: whether it is clean, and a move told to its index.

A move is made by rename and then told to git, which comes to the same as ``git mv``; so it never depends on git, and works for
files that git ignores or does not know.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from naap_ops import process
from naap_ops.errors import ToolMissing

# Looking must not write the index anew, which would lock out a git that the operator runs meanwhile.
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0"}


@dataclass(frozen=True)
class Worktree:
    """One work tree by its top folder."""

    top: Path

    @classmethod
    def of(cls, folder: Path) -> Worktree | None:
        """The work tree of ``folder``; None without git, outside of one, or where git will not be used (safe.directory)."""
        try:
            status, output, _ = process.run(["git", "rev-parse", "--show-toplevel"], check=False, cwd=folder, env=_ENVIRONMENT)
        except ToolMissing:
            return None
        return cls(Path(output.decode().rstrip("\n"))) if status == 0 and output.strip() else None

    def clean(self, apart_from: Sequence[Path]) -> bool:
        """Whether no tracked file differs from HEAD, but for those below ``apart_from``."""
        own = [f":(exclude,literal,top){each}" for path in apart_from if (each := self._inside(path)) is not None]
        output = self._git("status", "--porcelain", "--untracked-files=no", "--", ".", *own)
        return not output.strip()

    def tracks(self, folder: Path) -> bool:
        """Whether any file of ``folder`` is in the index."""
        return bool(self._git("ls-files", "--", self._literal(folder)).strip())

    def tidy(self, folder: Path, archive: Path) -> bool:
        """Whether the move of ``folder`` into ``archive`` may be staged: it is git's, and nothing else is changed."""
        return self.tracks(folder) and self.clean([folder, archive])

    def moved(self, old: Path, new: Path) -> None:
        """Have the index say that ``old`` is now ``new``; new files that git ignores, or outside of the tree, are left out."""
        self._git("rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", self._literal(old))
        if self._takes(new):
            self._git("add", "--", self._literal(new))

    def same(self, paths: Sequence[Path]) -> bool:
        """Whether the index has, below ``paths``, what HEAD has."""
        own = [str(each) for path in paths if (each := self._inside(path)) is not None]
        return not own or self._status("diff", "--cached", "--quiet", "HEAD", "--", *own) == 0

    def commands(self, old: Path, new: Path, name: str, *, staged: bool, what: str = "Untrack") -> list[str]:
        """What the operator has to type to have the move committed, as ``what`` was done to the migration."""
        where = ["git", "-C", str(self.top)]
        message = shlex.join([*where, "commit", "-m", f"{what} migration {name}"])
        if staged:
            return [message]
        paths = [str(self._inside(path)) for path in (old, new) if self._takes(path)]
        return [shlex.join([*where, "add", "-A", "--", *paths]), f"{message} -- {shlex.join(paths)}"]

    def _takes(self, path: Path) -> bool:
        """Whether a new file at ``path`` is git's to keep: inside of the tree, and not ignored."""
        return self._inside(path) is not None and self._status("check-ignore", "--quiet", "--", str(path)) != 0

    def _literal(self, path: Path) -> str:
        return f":(literal){self._inside(path) or path}"

    def _inside(self, path: Path) -> Path | None:
        try:
            return path.resolve().relative_to(self.top.resolve())
        except ValueError:
            return None

    def _git(self, *words: str) -> str:
        _, output, _ = process.run(["git", *words], cwd=self.top, env=_ENVIRONMENT)
        return output.decode("utf-8", "replace")

    def _status(self, *words: str) -> int:
        return process.run(["git", *words], cwd=self.top, env=_ENVIRONMENT, check=False)[0]


def told(tree: Worktree | None, old: Path, new: Path, name: str, *, tidy: bool) -> list[str]:
    """Stage the move where the tree was ``tidy`` before it, and say what to commit; nothing where git does not know ``old``."""
    if tree is None or not tree.tracks(old):
        return []
    if tidy:
        tree.moved(old, new)
    return tree.commands(old, new, name, staged=tidy)


def told_back(tree: Worktree | None, old: Path, new: Path, name: str, *, tidy: bool) -> list[str]:
    """The same of a folder that came back out of the archive: nothing is left to commit where its going never was."""
    if tree is None or not tree.tracks(new.parent):
        return []
    if tidy:
        tree.moved(old, new)
        if tree.same([old, new]):
            return []
    return tree.commands(old, new, name, staged=tidy, what="Reapply")
