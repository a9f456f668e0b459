"""The storage contract of `naap_ops/storage/base.py`, for every backend.

A backend takes part by one line in BACKENDS: a context manager that gets an empty folder and the test's request, and yields a
URL for ``open_storage``. What else it needs (an endpoint, credentials) it puts into the environment, because writers in other
processes need it too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from naap_ops.errors import StorageError
from naap_ops.storage.base import Storage
from naap_ops.storage.registry import open_storage
from tests.s3server import WeedServer, environment

LAST = "manifest.json"
FILES = {"data/toc.dat": b"\x00\x01toc", "data/3456.dat.zst": b"rows" * 5000, "globals.sql": b"", "SHA256SUMS": b"sums\n"}


@contextlib.contextmanager
def _folder(empty: Path, _: pytest.FixtureRequest) -> Iterator[str]:
    yield str(empty / "repository")


@contextlib.contextmanager
def _s3(_: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    server: WeedServer = request.getfixturevalue("s3_server")
    with environment(server.environment()):
        yield f"s3://{server.shared}/{secrets.token_hex(8)}/naap"


BACKENDS: dict[str, Callable[[Path, pytest.FixtureRequest], AbstractContextManager[str]]] = {"folder": _folder, "s3": _s3}


@pytest.fixture(params=sorted(BACKENDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    empty = tmp_path / "place"
    empty.mkdir()
    with BACKENDS[request.param](empty, request) as url:
        yield url


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [info.key for info in storage.list(prefix)]


def publish(storage: Storage, prefix: str, files: dict[str, bytes] = FILES) -> None:
    staging = storage.stage(prefix)
    fill(staging.path, files)
    for name in files:
        staging.complete(name)
    staging.publish(LAST, b"{}")


def fill(folder: Path, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


# --- objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{}\n", bytes(range(256)) * 5000], ids=["empty", "small", "binary"])
def test_what_is_put_can_be_got_by_anyone(url: str, storage: Storage, content: bytes) -> None:
    storage.put("app/x/records/one.json", content)
    assert storage.get("app/x/records/one.json") == content
    assert open_storage(url).get("app/x/records/one.json") == content


@pytest.mark.parametrize(
    "key", ["plain", "a%20b/c%2Fd", "with space/ü — 漢字", "a+b=c&d/e?f#g", "x" * 200, "a/b.tmp", "a.b/.c"]
)
def test_any_key_is_stored_and_listed_as_it_is(storage: Storage, key: str) -> None:
    storage.put(key, b"1")
    assert storage.get(key) == b"1"
    assert keys(storage) == [key]


def test_put_never_overwrites(storage: Storage) -> None:
    storage.put("a/b", b"first")
    with pytest.raises(StorageError, match="never overwritten"):
        storage.put("a/b", b"second")
    assert storage.get("a/b") == b"first"


def test_what_is_not_there_cannot_be_read(storage: Storage) -> None:
    with pytest.raises(StorageError):
        storage.get("a/b")
    with pytest.raises(StorageError), storage.open("a/b"):
        pass


def test_stat_tells_size_and_time_of_objects_only(storage: Storage) -> None:
    storage.put("a/b", b"12345")
    info = storage.stat("a/b")
    assert info is not None
    assert (info.key, info.bytes) == ("a/b", 5)
    assert info.modified.utcoffset() == timedelta(0)
    assert storage.stat("a/c") is None
    assert storage.stat("a") is None, "a folder is no object"
    assert storage.stat("a/b/c") is None


@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (0, 0), (0, 4), (3, 4), (3, None), (9, 1), (9, 99), (10, None), (10, 5), (50, 5)]
)
def test_open_gives_exactly_the_range(storage: Storage, start: int, length: int | None) -> None:
    content = b"0123\n56\n89"
    expected = content[start:] if length is None else content[start : start + length]
    storage.put("a", content)
    with storage.open("a", start, length) as stream:
        assert stream.read() == expected
        assert stream.read() == b""
    with storage.open("a", start, length) as stream:
        assert list(stream) == io.BytesIO(expected).readlines()
    with storage.open("a", start, length) as stream:
        assert [stream.read(3), stream.read(3)] == [expected[:3], expected[3:6]]
    with storage.open("a", start, length) as stream:
        shutil.copyfileobj(stream, copied := io.BytesIO(), 4)
        assert copied.getvalue() == expected


def test_an_error_of_the_reader_is_not_the_storages(storage: Storage) -> None:
    storage.put("a", b"1")
    with pytest.raises(FileNotFoundError), storage.open("a"):
        raise FileNotFoundError(2, "something of the caller's")


# --- listing ------------------------------------------------------------------------------------------------------


def test_list_is_sorted_by_key_and_limited_to_the_folder(storage: Storage) -> None:
    names = ["app/b", "app/a/z", "app-2/a", "app.x/a", "app/a-b", "app_staging/a", "b"]
    for name in names:
        storage.put(name, name.encode())
    assert keys(storage) == sorted(names)
    assert keys(storage, "app") == ["app/a-b", "app/a/z", "app/b"]
    assert keys(storage, "app/a") == ["app/a/z"]
    assert keys(storage, "nothing") == []
    assert [info.bytes for info in storage.list("app")] == [7, 7, 5]


def test_an_empty_storage_lists_nothing(storage: Storage) -> None:
    assert keys(storage) == []
    assert list(storage.folders()) == []
    assert list(storage.sweep("app", LAST)) == []


def test_folders_are_those_that_hold_objects(storage: Storage) -> None:
    for name in ("b/1/x", "a/1", "a-b/1", "c"):
        storage.put(name, b"")
    assert list(storage.folders()) == ["a", "a-b", "b"]
    assert list(storage.folders("b")) == ["1"]
    assert list(storage.folders("nothing")) == []
    storage.delete("b/1/x")
    assert list(storage.folders()) == ["a", "a-b"]
    storage.stage("d/set")
    assert list(storage.folders()) == ["a", "a-b"], "what is staged is not there yet"


def test_delete_takes_one_object_and_does_not_mind_its_absence(storage: Storage) -> None:
    storage.put("a/b", b"")
    storage.put("a/c", b"")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("x/y/z")
    storage.delete("a/c/d")
    assert keys(storage) == ["a/c"]


OUTSIDE = ["/etc/x", "..", "../x", "a/../../x", "a/../b", "a\0b"]
CALLS: dict[str, Callable[[Storage, str], Any]] = {
    "put": lambda s, key: s.put(key, b""),
    "get": lambda s, key: s.get(key),
    "stat": lambda s, key: s.stat(key),
    "open": lambda s, key: s.open(key).__enter__(),
    "list": lambda s, key: list(s.list(key)),
    "folders": lambda s, key: list(s.folders(key)),
    "delete": lambda s, key: s.delete(key),
    "stage": lambda s, key: s.stage(key),
    "sweep": lambda s, key: list(s.sweep(key, LAST)),
    "remove": lambda s, key: s.remove(key, LAST),
    "local": lambda s, key: s.local(key).__enter__(),
}


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize("call", sorted(CALLS))
def test_keys_that_lead_outside_are_refused(storage: Storage, tmp_path: Path, call: str, key: str) -> None:
    storage.put("a/b", b"")
    with pytest.raises(StorageError, match="leads outside"):
        CALLS[call](storage, key)
    assert keys(storage) == ["a/b"]
    assert [p.name for p in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize("call", ["put", "stage", "remove", "delete"])
@pytest.mark.parametrize("key", ["", "."])
def test_the_whole_storage_is_no_key(storage: Storage, call: str, key: str) -> None:
    storage.put("a/b", b"")
    with pytest.raises(StorageError):
        CALLS[call](storage, key)
    assert keys(storage) == ["a/b"]


# --- sets ---------------------------------------------------------------------------------------------------------


def test_a_staged_set_shows_only_once_published(url: str, storage: Storage) -> None:
    storage.put("app/old/x", b"")
    staging = storage.stage("app/set")
    fill(staging.path)
    for name in FILES:
        staging.complete(name)
    for watcher in (storage, open_storage(url)):
        assert keys(watcher) == ["app/old/x"]
        assert list(watcher.folders("app")) == ["old"]
        assert watcher.stat("app/set/globals.sql") is None
    staging.publish(LAST, b'{"id": 1}')
    for watcher in (storage, open_storage(url)):
        assert keys(watcher, "app/set") == sorted(f"app/set/{name}" for name in [*FILES, LAST])
        assert {name: watcher.get(f"app/set/{name}") for name in FILES} == FILES
        assert watcher.get(f"app/set/{LAST}") == b'{"id": 1}'
        assert list(watcher.folders("app")) == ["old", "set"]
    assert not staging.path.exists()


def test_an_abandoned_set_leaves_no_trace(storage: Storage) -> None:
    staging = storage.stage("app/set")
    fill(staging.path)
    staging.abandon()
    assert not staging.path.exists()
    assert keys(storage) == []
    assert list(storage.sweep("app", LAST)) == []
    publish(storage, "app/set")  # the name is free again


def test_abandoning_twice_or_after_publishing_is_harmless(storage: Storage) -> None:
    staging = storage.stage("app/set")
    staging.publish(LAST, b"{}")
    staging.abandon()
    assert keys(storage) == [f"app/set/{LAST}"]
    other = storage.stage("app/other")
    other.abandon()
    other.abandon()
    assert keys(storage) == [f"app/set/{LAST}"]


def test_a_published_set_is_never_overwritten(storage: Storage) -> None:
    publish(storage, "app/set")
    before = {info.key: info.bytes for info in storage.list()}
    with pytest.raises(StorageError):
        storage.stage("app/set")
    assert {info.key: info.bytes for info in storage.list()} == before


def test_a_set_that_came_to_be_meanwhile_survives(url: str, storage: Storage) -> None:
    """Who publishes second fails and, abandoning its own, takes nothing of the first's."""
    ours = storage.stage("app/set")
    fill(ours.path)
    for name in FILES:
        ours.complete(name)
    other = open_storage(url)
    for name, content in FILES.items():
        other.put(f"app/set/{name}", content[::-1])
    other.put(f"app/set/{LAST}", b"{}")
    with pytest.raises(StorageError):
        ours.publish(LAST, b"other")
    ours.abandon()
    assert storage.get(f"app/set/{LAST}") == b"{}"
    assert {name: storage.get(f"app/set/{name}") for name in FILES} == {n: c[::-1] for n, c in FILES.items()}


def test_what_nobody_completed_is_published_too(storage: Storage) -> None:
    staging = storage.stage("app/set")
    fill(staging.path)
    staging.complete("globals.sql")
    staging.publish(LAST, b"{}")
    assert {name: storage.get(f"app/set/{name}") for name in FILES} == FILES
    assert keys(storage, "app/set") == sorted(f"app/set/{name}" for name in [*FILES, LAST])


LARGE = random.Random(1).randbytes(1 << 20) * 20 + b"end"


def test_large_files_are_complete_and_no_longer_waiting_when_drained(storage: Storage) -> None:
    staging = storage.stage("app/set")
    fill(staging.path, {"data/large": LARGE, "data/other": LARGE[:-3]})
    staging.complete("data/large", hashlib.sha256(LARGE).hexdigest())
    staging.complete("data/other")
    staging.drain()
    assert staging.waiting == 0
    assert keys(storage) == []
    staging.settle()
    staging.publish(LAST, b"{}")
    assert storage.get("app/set/data/large") == LARGE
    assert storage.get("app/set/data/other") == LARGE[:-3]


@pytest.mark.parametrize("expected", [0, len(LARGE), 1 << 40], ids=["unknown", "known", "guessed far too high"])
@pytest.mark.parametrize("content", [b"", b"short", LARGE], ids=["empty", "short", "large"])
def test_a_file_can_be_written_as_a_stream(storage: Storage, content: bytes, expected: int) -> None:
    staging = storage.stage("app/set")
    with staging.sink("data/stream", expected) as sink:
        for start in range(0, len(content), 777_777):
            sink.write(content[start : start + 777_777])
    assert keys(storage) == []
    staging.publish(LAST, b"{}")
    assert storage.get("app/set/data/stream") == content


@pytest.mark.parametrize("content", [b"short", LARGE], ids=["short", "large"])
def test_a_stream_that_breaks_off_leaves_no_file(storage: Storage, content: bytes) -> None:
    staging = storage.stage("app/set")
    with contextlib.suppress(EOFError), staging.sink("data/stream") as sink:
        sink.write(content)
        raise EOFError
    staging.publish(LAST, b"{}")
    assert keys(storage) == [f"app/set/{LAST}"]


def test_parts_of_a_set_are_at_hand_as_a_local_folder(storage: Storage) -> None:
    publish(storage, "app/set", {**FILES, "data/large": LARGE})
    with storage.local("app/set", ["data/large", "globals.sql"]) as folder:
        assert (folder / "data/large").read_bytes() == LARGE
        assert (folder / "globals.sql").read_bytes() == b""


def test_removing_a_set_leaves_its_neighbours(storage: Storage) -> None:
    for name in ("app/set", "app/set-2", "app_staging/set"):
        publish(storage, name, {"x": b"1"})
    storage.remove("app/set", LAST)
    storage.remove("app/set", LAST)
    assert keys(storage) == sorted(f"{p}/{n}" for p in ("app/set-2", "app_staging/set") for n in (LAST, "x"))
    assert list(storage.folders("app")) == ["set-2"]


def test_a_set_is_at_hand_as_a_local_folder(storage: Storage) -> None:
    publish(storage, "app/set")
    with storage.local("app/set") as folder:
        found = {name: hashlib.sha256((folder / name).read_bytes()).digest() for name in FILES}
    assert found == {name: hashlib.sha256(content).digest() for name, content in FILES.items()}


# --- sweeping -----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from naap_ops.storage.registry import open_storage
staging = open_storage(sys.argv[1]).stage("app/set")
(staging.path / "x").write_bytes(b"half")
print("writing", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def writer(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has staged ``app/set`` and is still writing."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        try:
            yield process
        finally:
            process.kill()


def test_sweeping_spares_the_living_and_removes_the_dead(url: str, storage: Storage) -> None:
    publish(storage, "app/whole", {"x": b"1"})
    storage.put("app/foreign/file", b"not ours")
    before = keys(storage)
    with writer(url) as process:
        assert list(storage.sweep("app", LAST)) == []
        assert list(storage.sweep("other", LAST)) == []
        with pytest.raises(StorageError):
            storage.stage("app/set")
        process.kill()
        process.wait()
        assert keys(storage) == before, "never visible"
        assert len(list(storage.sweep("app", LAST))) == 1
    assert list(storage.sweep("app", LAST)) == []
    assert keys(storage) == before
    publish(storage, "app/set")
