"""What breaks under a rollback, an untrack or an emergency on our side: the disk, rights, the git tree, a killed command."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from naap_ops import files
from naap_ops.postgres import unprivileged
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from tests import emergencies, rollbacks
from tests.desk import Run, wait_until
from tests.emergencies import Scene
from tests.integration.prisma.conftest import WALLET, Site

pytestmark = pytest.mark.long

EMERGENCY = ("emergency", "--migration", "wallet", "--yes", "--json")
UNTRACK = ("untrack", "--migration", "index_balance", "--yes", "--json")


@pytest.fixture
def site(any_database: ConnInfo, tmp_path: Path) -> Site:
    return rollbacks.place(any_database, tmp_path)


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path) -> Iterator[Scene]:
    with emergencies.scene(any_server, tmp_path) as scene:
        scene.commands()
        yield scene


# --- disk -------------------------------------------------------------------------------------------------------------


def room(size: int) -> Callable[[], None]:
    """As on a disk that fills up: no file grows past ``size`` bytes, so that the journal meets it at one line or another."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def assert_full(answer: Run, folder: Path) -> None:
    assert answer.code == 10, answer.err
    assert f"no room left at {folder}" in answer.json["message"]


@pytest.mark.parametrize("size", [0, 100, 2000, 2400, 2800, 3200, 3600, 4000, 4400])
def test_rollback_on_a_full_disk(site: Site, size: int) -> None:
    before = rollbacks.world(site)
    answer = site.program(*rollbacks.WORDS, preexec_fn=room(size))
    if answer.code != 0:
        assert_full(answer, site.folder)
        went = site.run("rollback", "--resume", "--yes")
        assert went.code in (0, 11), went.err
        if went.code == 11:  # it was never begun, or nothing of it was left
            assert rollbacks.world(site) == before
            again = site.run(*rollbacks.WORDS)
            assert again.code == 0, again.err
    rollbacks.assert_rolled_back(site)


class Filling:
    """The disk is full from a line of the journal on, for whatever is made durable after it."""

    def __init__(self, line: int) -> None:
        self.left = line

    def arrange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write, sync = files.write_all, os.fsync

        def written(fd: int, data: bytes) -> None:
            self.left -= 1
            self._refuse()
            write(fd, data)

        def synced(fd: int) -> None:
            self._refuse()
            sync(fd)

        monkeypatch.setattr(files, "write_all", written)
        monkeypatch.setattr(os, "fsync", synced)

    def _refuse(self) -> None:
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("line", range(0, 33, 2))
def test_emergency_as_the_disk_fills_up(scene: Scene, line: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        Filling(line).arrange(monkeypatch)
        answer = scene.run(*EMERGENCY)
    assert_gone_on_with(scene, answer)


@pytest.mark.parametrize("size", [0, 1000, 4000, 100_000])
def test_emergency_on_a_full_disk(scene: Scene, size: int) -> None:
    assert_gone_on_with(scene, scene.program(*EMERGENCY, preexec_fn=room(size)))


def assert_gone_on_with(scene: Scene, answer: Run) -> None:
    if answer.code != 0:
        assert_full(answer, scene.folder)
        went = scene.run("emergency", "--resume", "--yes")
        assert went.code in (0, 11), went.err
        if went.code == 11:
            scene.assert_before()
            assert scene.said == []
            again = scene.run(*EMERGENCY)
            assert again.code == 0, again.err
    elif not answer.json["record"]:
        assert "no record was written" in answer.out
    scene.assert_taken_back()
    assert scene.said[0] == "on"
    assert scene.said[-1] == "off"


def test_untrack_on_a_full_disk(site: Site) -> None:
    """The archive's record does not fit: the row stays, the folder too."""
    before = rollbacks.world(site)
    answer = site.program(*UNTRACK, preexec_fn=room(200))
    assert_full(answer, site.folder)
    assert rollbacks.world(site) == before
    assert site.run(*UNTRACK).code == 0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system with room for one database, which the server may write to."""
    with tempfile.TemporaryDirectory(prefix="naap_ops-disk-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        mounted = os.geteuid() == 0 and mount("-t", "tmpfs", "-o", "size=13m,mode=0777", "tmpfs", str(folder))
        if not mounted:
            pytest.skip("nothing can be mounted here")
        try:
            place = folder / "place"
            place.mkdir(mode=0o700)
            unprivileged.account().own(place)
            yield place
        finally:
            subprocess.run(["umount", folder], check=True)


def mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], check=False, capture_output=True).returncode == 0


def test_the_servers_disk_is_full(scene: Scene, small_disk: Path) -> None:
    """Before anything is stopped, and nothing is left of it; with room it goes through."""
    assert scene.info is not None
    name = scene.info.dbname
    quoted = '"' + str(name).replace('"', '""') + '"'
    scene.sql(f"create tablespace small location '{small_disk}'", dbname="postgres")
    try:
        scene.sql(f"alter database {quoted} set tablespace small", dbname="postgres")
        answer = scene.run(*EMERGENCY)
        assert answer.code == 10, answer.err
        assert scene.said == []
        scene.assert_before()
        assert scene.run("emergency", "--resume", "--yes").code == 11
        assert mount("-o", "remount,size=64m", str(small_disk.parent))
        assert scene.run(*EMERGENCY).code == 0
        scene.assert_taken_back()
    finally:
        for each in scene.ask(
            "select array_agg(quote_ident(datname)) from pg_database d join pg_tablespace t"
            " on t.oid = dattablespace where spcname = 'small'",
            dbname="postgres",
        ):
            scene.sql(f"drop database {each} with (force)", dbname="postgres")
        scene.sql("drop tablespace small", dbname="postgres")


# --- rights -----------------------------------------------------------------------------------------------------------


def ordinary() -> None:
    """For root: without the power to write where the mode says that nobody may (prctl 24, capability 1: CAP_DAC_OVERRIDE)."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0


@pytest.fixture
def sealed() -> Iterator[Callable[[Path], Path]]:
    """Makes folders read-only until the test ends, or :func:`unsealed`."""
    folders: list[Path] = []

    def seal(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o555)
        folders.append(folder)
        return folder

    yield seal
    for folder in folders:
        folder.chmod(0o755)


PLACES = {
    "migrations": lambda site: site.migrations,
    "archive": lambda site: site.app().archive,
    "state": lambda site: site.app().state,
}


@pytest.mark.parametrize("place", PLACES)
def test_rollback_where_it_may_not_write(site: Site, sealed: Callable[[Path], Path], place: str) -> None:
    before = rollbacks.world(site)
    folder = sealed(PLACES[place](site))
    answer = site.program(*rollbacks.WORDS, preexec_fn=ordinary)
    assert answer.code == 9, answer.err
    assert str(folder) in answer.json["message"]
    folder.chmod(0o755)
    if site.run("rollback", "--abort", "--yes").code != 0:
        assert rollbacks.world(site)["schema"] == before["schema"]
    assert rollbacks.world(site) == before
    assert site.run(*rollbacks.WORDS).code == 0
    rollbacks.assert_rolled_back(site)


@pytest.mark.parametrize("place", ["migrations", "archive"])
def test_untrack_where_it_may_not_write(site: Site, sealed: Callable[[Path], Path], place: str) -> None:
    before = rollbacks.world(site)
    folder = sealed(PLACES[place](site))
    answer = site.program(*UNTRACK, preexec_fn=ordinary)
    assert answer.code == 9, answer.err
    assert str(folder) in answer.json["message"]
    assert rollbacks.world(site) == before
    folder.chmod(0o755)
    assert site.run(*UNTRACK).code == 0


@pytest.mark.parametrize("place", PLACES)
def test_emergency_where_it_may_not_write(scene: Scene, sealed: Callable[[Path], Path], place: str) -> None:
    """Known before anything is stopped."""
    folder = sealed(PLACES[place](scene))
    answer = scene.program(*EMERGENCY, preexec_fn=ordinary)
    assert answer.code == 9, answer.err
    assert str(folder) in answer.json["message"]
    folder.chmod(0o755)
    assert scene.said == []
    scene.assert_before()
    assert scene.run(*EMERGENCY).code == 0


# --- git --------------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def dirty(folder: Path) -> None:
    """All is committed but for one file, which is staged in one state and lies there in another."""
    git(folder, "init", "-q")
    (folder / "app.ts").write_text("one")
    git(folder, "add", "prisma", "app.ts")
    git(folder, "commit", "-qm", "deployed")
    (folder / "app.ts").write_text("two")
    git(folder, "add", "app.ts")
    (folder / "app.ts").write_text("three")


def assert_only_told(folder: Path, answer: Run, name: str) -> None:
    """Nothing was staged, what was is as it was, and the commands that are told commit the move and nothing else."""
    assert git(folder, "diff", "--cached", "--name-only").split() == ["app.ts"]
    assert git(folder, "show", ":app.ts") == "two"
    assert (folder / "app.ts").read_text() == "three"
    commands = [line for line in answer.json["commit"] if name in line]
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command, shell=True, check=True, env={**os.environ, **AUTHOR}, cwd="/")
    changed = git(folder, "show", "--name-only", "--no-renames", "--format=").split()
    assert any(path.startswith(f"prisma/migrations/{name}/") for path in changed)
    assert "app.ts" not in changed
    assert git(folder, "show", ":app.ts") == "two"


AUTHOR = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def test_rollback_in_a_dirty_tree(site: Site) -> None:
    dirty(site.folder)
    answer = site.run("rollback", "--migration", "index_balance", "--yes", "--json")
    assert answer.code == 0, answer.err
    assert_only_told(site.folder, answer, rollbacks.INDEX)


def test_emergency_in_a_dirty_tree(scene: Scene) -> None:
    dirty(scene.folder)
    answer = scene.run(*EMERGENCY)
    assert answer.code == 0, answer.err
    scene.assert_taken_back()
    assert_only_told(scene.folder, answer, WALLET)


def test_an_abort_in_a_dirty_tree_leaves_it_as_it_was(scene: Scene) -> None:
    dirty(scene.folder)
    (scene.folder / "say.sh").write_text("#!/bin/sh\n[ $1 != start ] || [ -e mended ]\n")
    status = git(scene.folder, "status", "--porcelain", "prisma", "app.ts")
    assert scene.run(*EMERGENCY).code == 20
    (scene.folder / "mended").touch()
    assert scene.run("emergency", "--abort", "--yes").code == 0
    assert git(scene.folder, "status", "--porcelain", "prisma", "app.ts") == status


# --- killed while the operator's command runs -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["--resume", "--abort"])
@pytest.mark.parametrize("command", ["on", "stop", "start", "off"])
def test_killed_while_a_command_runs(scene: Scene, command: str, way: str) -> None:
    """The command itself goes on, as nobody tells it; it runs again, and its first run ends when it will."""
    wait = f'if [ "$1" = {command} ] && [ ! -e there ]; then touch there; while [ ! -e go ]; do sleep 0.05; done; fi'
    scene.commands(wait)
    child = scene.spawn(*EMERGENCY)
    wait_until(lambda: (scene.folder / "there").exists() or child.poll() is not None)
    assert child.poll() is None, child.communicate()
    child.send_signal(signal.SIGKILL)
    child.wait()
    answer = scene.run("emergency", way, "--yes", "--json")
    (scene.folder / "go").touch()
    assert answer.code == 0, answer.err
    if way == "--resume":
        scene.assert_taken_back()
        assert {each["state"] for each in answer.json["steps"]} == {"done"}
    else:
        scene.assert_before()
    record = json.loads(Path(answer.json["record"]).with_suffix(".json").read_bytes())
    assert record["outcome"] == ("done" if way == "--resume" else "aborted")
    wait_until(lambda: command in scene.said)
