"""Shared by the unit tests: killing a piece of code at every step, running it as another user, forgetting secrets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from naap_ops import redact

# No deadline: how long a case takes says nothing here.
settings.register_profile("naap_ops", deadline=None)
settings.load_profile("naap_ops")

# Runs `prepare(root)`, then `act(root)` in forked children, killing the N-th child before its N-th call into the file system,
# until one gets through. Leaves the folders root/1, root/2, ... behind, the last one being that of the survivor.
_KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
scenario = {}
exec(sys.stdin.read(), scenario)

def armed(fatal):
    calls = 0
    def deadly(real):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)
        return call
    for name in "open rename replace link mkdir unlink remove rmdir chmod fsync ftruncate pwrite".split():
        setattr(os, name, deadly(getattr(os, name)))

for step in range(1, 1000):
    root = Path(sys.argv[1], str(step))
    root.mkdir()
    scenario["prepare"](root)
    if (child := os.fork()) == 0:
        armed(step)
        scenario["act"](root)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
"""


@pytest.fixture
def killed_everywhere(tmp_path: Path) -> Callable[[str], list[Path]]:
    """From source with ``prepare(root)`` and ``act(root)``: the roots where ``act`` was killed at step 1, 2, ... or not."""

    def run(source: str) -> list[Path]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        subprocess.run([sys.executable, "-c", _KILL_EVERYWHERE, str(folder)], input=source, text=True, check=True)
        return sorted(folder.iterdir(), key=lambda root: int(root.name))

    return run


_NOBODY = 65534
_UNPRIVILEGED = """
import os, sys
import naap_ops.backup.verify, naap_ops.process, naap_ops.storage.local
{first}
if os.geteuid() == 0:
    os.setgroups([]), os.setgid({nobody}), os.setuid({nobody})
root = sys.argv[1]
{source}
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory(prefix="naap_ops_test_", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_nobody(open_folder: Path) -> Callable[..., str]:
    """Run Python source (``root`` is ``open_folder``) as a user without privileges; what it printed.

    ``first`` runs before: what it imports may be out of that user's reach.
    """

    def run(source: str, first: str = "") -> str:
        code = _UNPRIVILEGED.format(nobody=_NOBODY, source=source, first=first)
        return subprocess.run(
            [sys.executable, "-c", code, str(open_folder)], check=True, stdout=subprocess.PIPE, text=True, cwd="/"
        ).stdout

    return run


@pytest.fixture
def _no_lasting_secrets() -> Iterator[None]:
    """No secret is known when the test begins, and what it registers is forgotten after it."""
    before = set(redact._known)
    redact._known.clear()
    yield
    redact._known.clear()
    redact._known.update(before)
