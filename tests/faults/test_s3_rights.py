"""S3 with keys that may little, buckets missing or locked, stores that go and come, writers that die, disks that are full."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from naap_ops import clock
from naap_ops.config.settings import S3Settings, Settings
from naap_ops.errors import NoSpace, StorageError
from naap_ops.storage.base import Storage
from naap_ops.storage.registry import open_storage
from naap_ops.storage.s3 import download, marker
from tests import s3server
from tests.s3proxy import proxy
from tests.s3server import Keys, WeedServer, environment

MIB = 1 << 20
LAST = "manifest.json"
LARGE = secrets.token_bytes(MIB) * 9
FILES = {"data/large": LARGE, "data/small": b"small"}
WHOLE = sorted(f"app/set/{name}" for name in [*FILES, LAST])


@pytest.fixture
def url(s3_server: WeedServer) -> Iterator[str]:
    with environment(s3_server.environment()):
        yield f"s3://{s3_server.shared}/{secrets.token_hex(8)}"


@pytest.fixture
def own_bucket(s3_server: WeedServer) -> Iterator[str]:
    """A bucket in which rights can be taken away."""
    with environment(s3_server.environment()):
        yield s3_server.bucket()


def opened(url: str, *, staging: Path | None = None, **options: Any) -> Storage:
    quick: dict[str, Any] = {"attempts": 2, "read_timeout": timedelta(seconds=5), "connect_timeout": timedelta(seconds=2)}
    return open_storage(url, Settings(s3=S3Settings(**(quick | options)), staging=staging))


def publish(storage: Storage, prefix: str = "app/set") -> None:
    s3server.publish(storage, FILES, last=LAST, prefix=prefix)


def keys(storage: Storage) -> list[str]:
    return [info.key for info in storage.list()]


def everything(server: WeedServer, url: str) -> list[str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    found = server.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    return [each["Key"].removeprefix(f"{prefix}/") for each in found]


# --- keys and buckets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoilt", [lambda k: Keys("NOSUCHKEYATALL00", k.secret), lambda k: Keys(k.access, "wrong-secret-of-many-letters")]
)
def test_wrong_keys_are_named_and_not_shown(s3_server: WeedServer, url: str, spoilt: Any) -> None:
    wrong: Keys = spoilt(s3_server.writer)
    with environment(s3_server.environment(wrong)), pytest.raises(StorageError, match="refused the keys") as caught:
        list(opened(url).list())
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.advice
    assert wrong.secret not in repr(caught.value) + str(caught.value.as_dict())


def test_no_keys_at_all(s3_server: WeedServer, url: str) -> None:
    with environment({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}), pytest.raises(StorageError, match="no keys"):
        list(opened(url).list())


@pytest.mark.parametrize("call", ["list", "put", "get", "stat", "stage", "local", "sweep", "remove"])
def test_a_missing_bucket_is_said_to_be_missing(s3_server: WeedServer, url: str, call: str) -> None:
    storage = opened("s3://no-such-bucket-here/naap")
    calls: dict[str, Any] = {
        "list": lambda: list(storage.list()),
        "put": lambda: storage.put("a", b""),
        "get": lambda: storage.get("a"),
        "stat": lambda: storage.stat("a"),
        "stage": lambda: storage.stage("a/b"),
        "local": lambda: storage.local("a").__enter__(),
        "sweep": lambda: storage.sweep("a", LAST),
        "remove": lambda: storage.remove("a", LAST),
    }
    with pytest.raises(StorageError, match="bucket does not exist"):
        calls[call]()


@pytest.mark.parametrize("bad", ["s3://", "s3:///x", "s3://a/b", "s3://bu cket/x", "s3://bucket/../x", "s3://bucket/./x"])
def test_urls_that_name_no_bucket(bad: str) -> None:
    with pytest.raises(StorageError, match="is no s3://bucket/prefix"):
        open_storage(bad)


@pytest.mark.parametrize("bad", ["s3:/bucket/prefix", "s3:bucket", "S3:/bucket", "file:/srv/backups"])
def test_urls_with_a_slash_too_few_are_no_folders(bad: str) -> None:
    with pytest.raises(StorageError, match="neither a URL nor") as caught:
        open_storage(bad)
    assert f"./{bad}" in caught.value.advice
    assert open_storage(f"./{bad}").url.endswith(bad)


def test_nothing_listens_there(url: str) -> None:
    with environment({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}), pytest.raises(StorageError, match="cannot be reached"):
        list(opened(url).list())


@pytest.mark.parametrize("by", ["setting", "variable"])
def test_keys_of_a_profile(s3_server: WeedServer, url: str, tmp_path: Path, by: str) -> None:
    """A profile that is named is stronger than keys that lie about in the environment."""
    writer = s3_server.writer
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = NOSUCHKEY\naws_secret_access_key = wrong\n"
        f"[backups]\naws_access_key_id = {writer.access}\naws_secret_access_key = {writer.secret}\n"
    )
    options: dict[str, Any] = {"profile": "backups"} if by == "setting" else {}
    own = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    own |= {"AWS_PROFILE": "backups"} if by == "variable" else {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with environment(s3_server.environment() | own):
        if by == "variable":  # there, AWS's own tools prefer the keys
            del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        publish(opened(url, **options))
        assert len(keys(opened(url, **options))) == len(FILES) + 1
        with pytest.raises(StorageError, match="nobodys") as caught:
            list(opened(url, profile="nobodys").list())
        assert "s3.profile" in caught.value.advice


def test_by_way_of_a_proxy(s3_server: WeedServer, url: str) -> None:
    """The proxy gets whole URLs; the store takes those as well, so one that only passes on will do."""
    with proxy(s3_server.port) as between:
        with environment(s3_server.environment() | {"HTTP_PROXY": between.endpoint, "NO_PROXY": ""}):
            publish(opened(url))
            assert len(keys(opened(url))) == len(FILES) + 1
        assert any(request.target.startswith(s3_server.endpoint) for request in between.names("PUT"))
    gone = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    with environment(s3_server.environment() | gone), pytest.raises(StorageError, match="proxy cannot be reached") as caught:
        list(opened(url).list())
    assert "HTTPS_PROXY" in caught.value.advice


def test_an_endpoint_that_is_no_url(url: str) -> None:
    with pytest.raises(StorageError, match="Invalid endpoint"):
        list(opened(url, endpoint="not a url").list())


def test_keys_that_may_not_delete_publish_and_read(s3_server: WeedServer, own_bucket: str) -> None:
    s3_server.forbid(own_bucket, "s3:DeleteObject")
    storage = opened(f"s3://{own_bucket}/naap")
    publish(storage)
    assert keys(storage) == WHOLE
    assert list(storage.folders("app")) == ["set"]
    assert list(storage.sweep("app", LAST)) == []
    staging = storage.stage("app/other")
    (staging.path / "x").write_bytes(LARGE)
    staging.complete("x")
    staging.abandon()
    assert keys(storage) == WHOLE, "what is given up leaves nothing that would have to be deleted"
    assert s3_server.uploads(f"s3://{own_bucket}/naap") == []


def test_a_removal_without_the_right_to_delete_is_explained_and_changes_nothing(s3_server: WeedServer, own_bucket: str) -> None:
    url = f"s3://{own_bucket}/naap"
    publish(opened(url))
    before = everything(s3_server, url)
    s3_server.forbid(own_bucket, "s3:DeleteObject")
    with pytest.raises(StorageError, match="may not delete") as caught:
        opened(url).remove("app/set", LAST)
    assert "s3:DeleteObject" in caught.value.advice
    assert everything(s3_server, url) == before


def test_keys_that_may_not_list_publish_and_say_what_is_missing(s3_server: WeedServer, url: str) -> None:
    with environment(s3_server.environment(s3_server.no_list)):
        storage = opened(url)
        assert list(storage.sweep("app", LAST)) == []
        publish(storage)
        assert storage.get("app/set/data/large") == LARGE
        with pytest.raises(StorageError, match=r"s3:ListBucket is wanted"):
            list(storage.list())
    assert keys(opened(url)) == WHOLE


def test_keys_that_may_only_read(s3_server: WeedServer, url: str) -> None:
    publish(opened(url))
    with environment(s3_server.environment(s3_server.reader)):
        storage = opened(url)
        assert storage.get(f"app/set/{LAST}") == b"{}"
        with storage.local("app/set") as folder:
            assert (folder / "data/large").read_bytes() == LARGE
        with pytest.raises(StorageError, match="s3:PutObject is wanted"):
            storage.stage("app/other")
    assert keys(opened(url)) == WHOLE


# --- protection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_locked_sets_cannot_be_removed(s3_server: WeedServer, mode: str) -> None:
    url = f"s3://{s3_server.bucket(ObjectLockEnabledForBucket=True)}/naap"
    with environment(s3_server.environment(s3_server.admin)):
        storage = opened(url, object_lock=mode, lock_days=3)
        publish(storage)
        storage.put("app/set/records/one", b"1")
        for key in keys(storage):
            found = s3_server.client().head_object(Bucket=url.split("/")[2], Key=f"naap/{key}")
            assert found["ObjectLockMode"] == mode.upper()
            assert timedelta(days=2.9) < found["ObjectLockRetainUntilDate"] - clock.now() < timedelta(days=3.1)
        before = keys(storage)
        with pytest.raises(StorageError, match=rf"is locked \({mode}\) until \d"):
            storage.remove("app/set", LAST)
        assert keys(storage) == before
        staging = storage.stage("app/other")
        (staging.path / "x").write_bytes(LARGE)
        staging.complete("x")
        staging.abandon()
        assert keys(storage) == before, "what is given up leaves nothing locked"


@pytest.mark.parametrize(
    ("who", "message", "advice"),
    [("admin", "object lock was refused", "created with object lock"), ("writer", "InvalidRequest", "s3.object_lock")],
    ids=["keys that may ask for it", "keys that may not"],
)
def test_a_lock_in_a_bucket_without_locks_is_refused(
    s3_server: WeedServer, url: str, who: str, message: str, advice: str
) -> None:
    with environment(s3_server.environment(getattr(s3_server, who))):
        storage = opened(url, object_lock="governance", lock_days=1)
        with pytest.raises(StorageError, match=message) as caught:
            publish(storage)
    assert advice in caught.value.advice
    assert everything(s3_server, url) == []


def test_encryption_class_and_tags_are_on_what_they_belong_to(s3_server: WeedServer, url: str) -> None:
    publish(opened(url, sse="AES256", storage_class="STANDARD_IA", tags=["team=data base", "a=b=c"]))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for key in WHOLE:
        facts = s3_server.client().head_object(Bucket=bucket, Key=f"{prefix}/{key}")
        tags = s3_server.client().get_object_tagging(Bucket=bucket, Key=f"{prefix}/{key}")["TagSet"]
        assert facts["ServerSideEncryption"] == "AES256"
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "data base", "a": "b=c"}
        assert facts.get("StorageClass", "STANDARD") == ("STANDARD" if key.endswith(LAST) else "STANDARD_IA"), "catalogues stay"


# --- the store goes and comes -------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_store_that_stops_in_the_middle_and_comes_back(s3_server: WeedServer, url: str) -> None:
    storage = opened(url)
    staging = storage.stage("app/set")
    (staging.path / "one").write_bytes(LARGE)
    staging.complete("one")
    staging.drain()
    s3_server.stop()
    try:
        (staging.path / "two").write_bytes(LARGE)
        staging.complete("two")
        with pytest.raises(StorageError, match="cannot be reached"):
            staging.drain()
        with pytest.raises(StorageError, match="cannot be reached"):
            staging.complete("one")
        staging.abandon()
        assert not staging.path.exists()
    finally:
        s3_server.start()
    again = opened(url)
    assert keys(again) == []
    assert list(again.sweep("app", LAST)) == ["set"]
    assert everything(s3_server, url) == []
    assert s3_server.uploads(url) == []
    publish(again)


# --- the dead and the living --------------------------------------------------------------------------------------

WRITER = """
import sys
from naap_ops.storage.registry import open_storage
staging = open_storage(sys.argv[1]).stage("app/set")
(staging.path / "large").write_bytes(bytes(9 << 20))
staging.complete("large")
staging.drain()
(staging.path / "half").write_bytes(b"half")
print(staging.path, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def writer(url: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Another process that has sent a file of ``app/set`` and is still at it; its staging folder."""
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().decode().strip())
        try:
            yield process, folder
        finally:
            process.kill()


def test_a_sweep_ends_the_uploads_of_the_dead_and_touches_nothing_else(s3_server: WeedServer, url: str) -> None:
    storage = opened(url)
    publish(storage, "app/whole")
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    admin = s3_server.client()
    for name in ("app/foreign/file", "app/set-2/file", "app/.partial/x", "other/.partial/y"):
        admin.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"not ours")
    admin.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/app/set-2/upload")
    admin.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/app/upload")
    before = everything(s3_server, url)
    with writer(url) as (process, folder):
        assert list(storage.sweep("app", LAST)) == []
        assert "app/set/large" in s3_server.uploads(url)
        assert folder.exists()
        process.kill()
        process.wait()
        assert list(storage.sweep("other", LAST)) == []
        assert "app/set/large" in s3_server.uploads(url)
        assert list(storage.sweep("app", LAST)) == ["set"]
    assert not folder.exists()
    assert sorted(s3_server.uploads(url)) == ["app/set-2/upload", "app/upload"]
    assert everything(s3_server, url) == before


def test_a_set_half_published_by_the_dead_is_removed_and_a_whole_one_is_not(s3_server: WeedServer, url: str) -> None:
    storage = opened(url)
    with writer(url) as (process, _):
        process.kill()
        process.wait()
    storage.put("app/set/done", b"1")
    assert list(storage.sweep("app", LAST)) == ["set"]
    assert everything(s3_server, url) == []
    with writer(url) as (process, _):
        process.kill()
        process.wait()
    storage.put("app/set/done", b"1")
    storage.put(f"app/set/{LAST}", b"{}")
    assert list(storage.sweep("app", LAST)) == []
    assert everything(s3_server, url) == ["app/set/done", f"app/set/{LAST}"], "only its marker went"


def test_a_writer_on_another_machine_lives_for_a_day(s3_server: WeedServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = opened(url)
    with writer(url) as (process, _):
        process.kill()
        process.wait()
    monkeypatch.setattr(marker, "_kernel", lambda: "another machine")
    assert list(storage.sweep("app", LAST)) == []
    assert s3_server.uploads(url) == ["app/set/large"]
    later = clock.now() + timedelta(hours=25)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert list(storage.sweep("app", LAST)) == ["set"]
    assert s3_server.uploads(url) == []
    assert everything(s3_server, url) == []


def test_a_removal_cut_short_is_finished_by_a_sweep(s3_server: WeedServer, own_bucket: str) -> None:
    """As a killed one leaves it: the marker of a dead process, and files without their last."""
    url = f"s3://{own_bucket}/naap"
    publish(opened(url))
    storage = opened(url)
    s3_server.client().delete_object(Bucket=own_bucket, Key=f"naap/app/set/{LAST}")
    with writer(f"s3://{own_bucket}/elsewhere") as (process, _):
        process.kill()
        process.wait()
    found = s3_server.client().list_objects_v2(Bucket=own_bucket, Prefix="elsewhere/.partial/")["Contents"][0]["Key"]
    dead = s3_server.client().get_object(Bucket=own_bucket, Key=found)["Body"].read()
    s3_server.client().put_object(Bucket=own_bucket, Key=found.replace("elsewhere", "naap"), Body=dead)
    assert list(storage.sweep("app", LAST)) == ["set"]
    assert everything(s3_server, url) == []


def test_a_set_being_written_is_not_removed(url: str) -> None:
    storage = opened(url)
    with writer(url) as (_, _folder):
        storage.put("app/set/done", b"1")
        with pytest.raises(StorageError, match="being written"):
            storage.remove("app/set", LAST)
    assert keys(storage) == ["app/set/done"]


def test_foreign_objects_survive_the_removal_of_a_neighbour(s3_server: WeedServer, url: str) -> None:
    storage = opened(url)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for name in ("app/set-2", "app/setx/y", "app/other"):
        s3_server.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"not ours")
    publish(storage)
    storage.remove("app/set", LAST)
    assert everything(s3_server, url) == ["app/other", "app/set-2", "app/setx/y"]


def test_only_one_of_many_writers_of_a_key_succeeds(url: str) -> None:
    storages = [opened(url) for _ in range(8)]
    for storage in storages:
        assert storage.stat("x") is None
    gate = threading.Barrier(8)
    won: list[bytes] = []

    def write(number: int) -> None:
        gate.wait()
        with contextlib.suppress(StorageError):
            storages[number].put("app/one", b"%d" % number)
            won.append(b"%d" % number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [opened(url).get("app/one")]


# --- the disk here ------------------------------------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
from pathlib import Path
from naap_ops.config.settings import Settings
from naap_ops.errors import NoSpace
from naap_ops.storage.registry import open_storage
storage = open_storage(sys.argv[1], Settings(staging=Path(sys.argv[2])))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with storage.local("app/set"):
        print("fetched")
except NoSpace as error:
    print("NoSpace:", error.text)
staging = storage.stage("app/stream")
with staging.sink("data/large", 20 << 20) as sink:
    for _ in range(20):
        sink.write(bytes(1 << 20))
print(*[str(path.name) for path in staging.path.iterdir()])
staging.publish("manifest.json", b"{}")
"""


def test_a_full_disk_here_is_no_space_and_a_stream_needs_none(url: str, tmp_path: Path) -> None:
    publish(opened(url))
    done = subprocess.run([sys.executable, "-c", LIMITED, url, tmp_path / "s"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"NoSpace: no room left at {tmp_path / 's'}")
    assert second == ".lock", "20 MiB were streamed and none of it touched the disk"
    assert opened(url).get("app/stream/data/large") == bytes(20 << 20)
    assert list((tmp_path / "s").iterdir()) == []


MEMORY = """
import sys
from naap_ops.storage.registry import open_storage
storage = open_storage(sys.argv[1])
staging = storage.stage("app/set")
with open(staging.path / "file", "wb") as file:
    file.truncate(300 << 20)
staging.complete("file")
with staging.sink("stream", 300 << 20) as sink:
    for _ in range(300):
        sink.write(bytes(1 << 20))
staging.publish("manifest.json", b"{}")
with storage.local("app/set") as folder:
    assert (folder / "stream").stat().st_size == (folder / "file").stat().st_size == 300 << 20
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss starts with the parent's
print(int(peak.split()[1]) >> 10)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_what_is_sent(url: str) -> None:
    """600 MiB there and back; jobs times the part's size twice (files and a stream) beside boto3's own 60 MiB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200


def test_a_set_that_will_not_fit_is_not_begun(url: str, tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="to be fetched"):
        download.demand_room(tmp_path, 1 << 60)
