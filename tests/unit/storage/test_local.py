"""What only a folder can get wrong: modes, killed writers, full disks, rights, other people's folders."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from naap_ops.errors import Busy, StorageError
from naap_ops.lock import FileLock
from naap_ops.storage.local import LOCK, PARTIAL, LocalStorage
from naap_ops.storage.registry import open_storage

LAST = "manifest.json"


def publish(storage: LocalStorage, prefix: str) -> None:
    staging = storage.stage(prefix)
    (staging.path / "data").mkdir(mode=0o777)
    (staging.path / "data" / "1.dat").write_bytes(b"rows")
    (staging.path / "sums").write_bytes(b"sums")
    staging.publish(LAST, b"{}")


def everything(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


WHOLE = ["app/set", "app/set/data", "app/set/data/1.dat", "app/set/manifest.json", "app/set/sums"]


# --- modes --------------------------------------------------------------------------------------------------------


def test_files_and_folders_are_private_whoever_made_them(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "deep" / "repository")
    before = os.umask(0)
    try:
        publish(storage, "app/set")
        storage.put("app/set/records/1.json", b"")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "deep").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


# --- killed at every step -----------------------------------------------------------------------------------------

SCENARIO = """
import os
from naap_ops.storage.local import LocalStorage
from naap_ops.errors import StorageError

def staged(root):
    staging = LocalStorage(root).stage("app/set")
    (staging.path / "data").mkdir()
    (staging.path / "data" / "1.dat").write_bytes(b"rows")
    (staging.path / "sums").write_bytes(b"sums")
    return staging

def published(root):
    staging = staged(root)
    for name in ("data/1.dat", "sums"):
        staging.complete(name)
    staging.publish("manifest.json", b"{}")

def died(root):
    if (child := os.fork()) == 0:
        staged(root)
        os._exit(0)
    os.waitpid(child, 0)
"""

SCENARIOS = {
    "publish": "def prepare(root): pass\nact = published",
    "remove": "prepare = published\ndef act(root): LocalStorage(root).remove('app/set', 'manifest.json')",
    "abandon": "def prepare(root): pass\ndef act(root): staged(root).abandon()",
    "sweep": "prepare = died\ndef act(root): LocalStorage(root).sweep('app', 'manifest.json')",
    "abandon a failed publication": """
def prepare(root): pass
def act(root):
    staging = staged(root)
    try:
        staging.publish('no/such/folder', b'')
    except StorageError:
        staging.abandon()
""",
}


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_killed_at_any_step_a_set_is_whole_or_swept(name: str, killed_everywhere: Callable[[str], list[Path]]) -> None:
    roots = killed_everywhere(SCENARIO + SCENARIOS[name])
    assert len(roots) > 5, "it was killed nowhere"
    outcomes = set()
    for root in roots:
        storage = LocalStorage(root)
        whole = storage.stat(f"app/set/{LAST}") is not None
        outcomes.add(whole)
        storage.sweep("app", LAST)
        left = [path for path in everything(root) if not path.endswith(LOCK)]
        assert left == (["app", *WHOLE] if whole else left[:1]), f"killed at step {root.name}"
        if whole:
            assert storage.get("app/set/data/1.dat") == b"rows"
            storage.remove("app/set", LAST)
        publish(storage, "app/set")  # the name can be used, nothing is in the way
        assert everything(root) == ["app", *WHOLE]
    assert outcomes == ({True, False} if name in ("publish", "remove") else {False})


def test_put_killed_at_any_step_is_whole_or_nothing(killed_everywhere: Callable[[str], list[Path]]) -> None:
    source = "from naap_ops.storage.local import LocalStorage\ndef prepare(root): pass\n"
    roots = killed_everywhere(source + "def act(root): LocalStorage(root).put('a/b', b'content' * 9999)")
    for root in roots:
        storage = LocalStorage(root)
        listed = [info.key for info in storage.list()]
        assert listed in ([], ["a/b"])
        if listed:
            assert storage.get("a/b") == b"content" * 9999
        else:
            storage.put("a/b", b"again")
    assert len(roots) > 4


def test_all_is_durable_before_the_next_step_depends_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def logged_fsync(fd: int) -> None:
        log.append(("fsync", os.readlink(f"/proc/self/fd/{fd}").removeprefix(f"{tmp_path}/")))
        fsync(fd)

    def logged_rename(source: Path, target: Path) -> None:
        log.append(("rename", str(target).removeprefix(f"{tmp_path}/")))
        rename(source, target)

    storage = LocalStorage(tmp_path)
    staging = storage.stage("app/set")
    (staging.path / "data").mkdir()
    (staging.path / "data" / "1.dat").write_bytes(b"rows")
    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "rename", logged_rename)
    staging.complete("data/1.dat")
    staging.publish(LAST, b"{}")
    order = [entry for entry in log if not entry[1].endswith(".tmp")]
    assert order[0] == ("fsync", "app/set.partial/data/1.dat")
    assert set(order[1:3]) == {("fsync", "app/set.partial"), ("fsync", "app/set.partial/data")}
    assert order[3:] == [("rename", "app/set"), ("fsync", "app"), ("rename", "app/set/manifest.json"), ("fsync", "app/set")]
    assert log[log.index(("rename", "app/set/manifest.json")) - 1][1].endswith(".tmp"), "the manifest's bytes come first"


def test_a_removal_begins_with_the_last_file_and_makes_that_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fsync, unlink, rename = os.fsync, os.unlink, os.rename

    def logged_fsync(fd: int) -> None:
        log.append("fsync " + os.readlink(f"/proc/self/fd/{fd}").removeprefix(f"{tmp_path}/"))
        fsync(fd)

    def logged_unlink(path: Path, **options: int) -> None:
        log.append(f"unlink {Path(path).name}")
        unlink(path, **options)

    def logged_rename(source: Path, target: Path) -> None:
        log.append(f"rename {Path(target).name}")
        rename(source, target)

    storage = LocalStorage(tmp_path)
    publish(storage, "app/set")
    for name, logged in (("fsync", logged_fsync), ("unlink", logged_unlink), ("rename", logged_rename)):
        monkeypatch.setattr(os, name, logged)
    storage.remove("app/set", LAST)
    assert log[:3] == [f"unlink {LAST}", "fsync app/set", f"rename set{PARTIAL}"]
    assert log[-2:] == [f"unlink {LOCK}", "fsync app"]
    assert sorted(log[3:-2]) == ["unlink 1.dat", "unlink sums"]


def test_a_lock_file_left_behind_is_no_object(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    publish(storage, "app/set")
    (tmp_path / "app" / "set" / LOCK).touch()
    assert [info.key for info in storage.list()] == ["app/set/data/1.dat", "app/set/manifest.json", "app/set/sums"]


# --- full disks ---------------------------------------------------------------------------------------------------

LIMITED = """
import os, resource, sys
from pathlib import Path
from naap_ops.errors import NoSpace
from naap_ops.storage.local import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
staging = storage.stage("app/set")
(staging.path / "x").write_bytes(b"1")
staging.complete("x")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    storage.put("app/big", b"0" * 5000)
except NoSpace as error:
    print(error.text)
try:
    staging.publish("manifest.json", b"0" * 5000)
except NoSpace as error:
    print(error.text)
    staging.abandon()
"""


def test_a_full_disk_is_told_and_leaves_no_trace(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines() == [
        f"no room left at {tmp_path}/app/big: File too large",
        f"no room left at {tmp_path}/app/set: File too large",
    ]
    assert everything(tmp_path) == ["app"]


def test_a_full_disk_can_be_cleared(tmp_path: Path) -> None:
    """Where not one byte can be written, sweeping and removing still work: they are what makes room."""
    storage = LocalStorage(tmp_path)
    publish(storage, "app/set")
    dead = storage.stage("app/dead")
    dead._lock.release()
    source = f"""
import resource
from pathlib import Path
from naap_ops.storage.local import LocalStorage
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
storage = LocalStorage(Path({str(tmp_path)!r}))
assert storage.sweep("app", "manifest.json") == ["dead{PARTIAL}"]
storage.remove("app/set", "manifest.json")
"""
    subprocess.run([sys.executable, "-c", source], check=True)
    assert everything(tmp_path) == ["app"]


# --- rights -------------------------------------------------------------------------------------------------------


def test_a_read_only_place_is_a_storage_error(open_folder: Path, as_nobody: Callable[[str], str]) -> None:
    storage = LocalStorage(open_folder)
    publish(storage, "app/set")
    (open_folder / "app" / f"dead{PARTIAL}").mkdir()
    (open_folder / "app" / f"dead{PARTIAL}" / LOCK).touch()
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    told = as_nobody("""
from pathlib import Path
from naap_ops.errors import StorageError
storage = naap_ops.storage.local.LocalStorage(Path(root))
assert [i.key for i in storage.list()] == ["app/set/data/1.dat", "app/set/manifest.json", "app/set/sums"]
for call in (
    lambda: storage.put("app/x", b""), lambda: storage.stage("new/set"), lambda: storage.delete("app/set/sums"),
    lambda: storage.remove("app/set", "manifest.json"),
):
    try:
        call()
    except StorageError as error:
        print(error.exit_code, error.text.rsplit(": ", 1)[1])
assert storage.sweep("app", "manifest.json") == []
assert storage.get("app/set/manifest.json") == b"{}"
""")
    assert told == "9 Permission denied\n" * 4
    for path in [open_folder, *open_folder.rglob("*")]:
        path.chmod(0o755)
    assert everything(open_folder / "app" / "set") == ["data", "data/1.dat", "manifest.json", "sums"]


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(open_folder: Path, as_nobody: Callable[[str], str]) -> None:
    publish(LocalStorage(open_folder), "app/set")
    (open_folder / "app").chmod(0o000)
    told = as_nobody("""
from pathlib import Path
from naap_ops.errors import StorageError
storage = naap_ops.storage.local.LocalStorage(Path(root))
for call in (
    lambda: list(storage.list()), lambda: list(storage.list("app")), lambda: storage.folders(), lambda: storage.folders("app"),
    lambda: storage.stat("app/set/sums"), lambda: storage.get("app/set/sums"), lambda: storage.sweep("app", "manifest.json"),
):
    try:
        print(call())
    except StorageError as error:
        print(error.text.rsplit(": ", 1)[1])
""")
    assert told == "Permission denied\n" * 7
    (open_folder / "app").chmod(0o700)


def test_a_file_where_the_repository_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(StorageError):
        storage.put("a/b", b"")
    with pytest.raises(StorageError):
        storage.stage("a/b")
    assert list(storage.list()) == []


def test_a_name_too_long_for_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        LocalStorage(tmp_path).stage("x" * 300 + "/set")
    assert everything(tmp_path) == []


# --- what is not ours ---------------------------------------------------------------------------------------------


def test_sweeping_never_touches_what_it_did_not_make(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "repository")
    publish(storage, "app/set")
    app = tmp_path / "repository" / "app"
    elsewhere = tmp_path / "elsewhere"
    for folder in (app / "20261121T031500Z-5f3a1c", app / "notes", app / f"theirs{PARTIAL}", elsewhere):
        folder.mkdir()
        (folder / "precious").write_text("x")
    (elsewhere / LOCK).touch()
    (app / f"link{PARTIAL}").symlink_to(elsewhere)
    (app / f"file{PARTIAL}").write_text("x")
    (app / "empty").mkdir()
    before = everything(tmp_path)
    assert storage.sweep("app", LAST) == []
    assert everything(tmp_path) == before


def test_a_partial_killed_beside_its_lock_file_is_swept(tmp_path: Path) -> None:
    (tmp_path / "app" / f"set{PARTIAL}").mkdir(parents=True)
    assert LocalStorage(tmp_path).sweep("app", LAST) == [f"set{PARTIAL}"]
    assert everything(tmp_path) == ["app"]


def test_a_published_set_whose_last_file_is_missing_is_swept_unless_held(tmp_path: Path) -> None:
    """As a kill between the rename and the manifest leaves it."""
    storage = LocalStorage(tmp_path)
    staging = storage.stage("app/set")
    (staging.path / "x").write_bytes(b"1")
    os.rename(staging.path, tmp_path / "app" / "set")
    assert storage.sweep("app", LAST) == [], "its writer lives"
    staging._lock.release()
    assert storage.sweep("app", LAST) == ["set"]
    assert everything(tmp_path) == ["app"]


def test_two_removals_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    publish(storage, "app/set")
    with FileLock(tmp_path / "app" / "set" / LOCK, what="removing"), pytest.raises(Busy, match="removing set"):
        storage.remove("app/set", LAST)
    assert storage.stat(f"app/set/{LAST}") is not None
    storage.remove("app/set", LAST)


# --- from a URL ---------------------------------------------------------------------------------------------------


def test_where_a_repository_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert open_storage("./backups").url == str(tmp_path / "backups")
    assert open_storage("backups", base=tmp_path / "project").url == str(tmp_path / "project" / "backups")
    assert open_storage("/srv/x", base=tmp_path).url == "/srv/x"
    assert open_storage("~/backups", base=tmp_path).url == str(tmp_path / "home" / "backups")
    assert open_storage("file:///srv/x").url == "/srv/x"


@pytest.mark.parametrize("where", ["ftp://host/x", "s4://bucket", "", "  "])
def test_what_no_backend_serves(where: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(where)
    assert "--repo" in caught.value.advice
