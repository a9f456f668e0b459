"""Transfers to and from S3 over a network that breaks, stalls, slows down and lies: a real store behind such a proxy."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from naap_ops.config.settings import S3Settings, Settings
from naap_ops.errors import NoSpace, OpsError, StorageError
from naap_ops.storage.base import Storage
from naap_ops.storage.registry import open_storage
from tests import s3server
from tests.s3proxy import SLOW_DOWN, Deed, Proxy, Request, proxy
from tests.s3server import WeedServer, environment

MIB = 1 << 20
LAST = "manifest.json"
LARGE = random.Random(3).randbytes(MIB) * 20 + b"end"  # three parts
SMALL = b"small\n" * 100
FILES = {"data/large": LARGE, "data/small": SMALL}


@pytest.fixture
def between(s3_server: WeedServer) -> Iterator[Proxy]:
    with proxy(s3_server.port) as server, environment(s3_server.environment(endpoint=server.endpoint)):
        yield server


@pytest.fixture
def direct(s3_server: WeedServer, url: str, between: Proxy) -> Storage:
    """The same place, past the proxy."""
    return opened(url, endpoint=s3_server.endpoint)


@pytest.fixture
def url(s3_server: WeedServer, tmp_path: Path) -> str:
    return f"s3://{s3_server.shared}/{tmp_path.name}-{random.randrange(1 << 40)}"


def opened(url: str, *, staging: Path | None = None, **options: Any) -> Storage:
    quick: dict[str, Any] = {"attempts": 3, "read_timeout": timedelta(seconds=2), "connect_timeout": timedelta(seconds=2)}
    return open_storage(url, Settings(s3=S3Settings(**(quick | options)), staging=staging))


def publish(storage: Storage, prefix: str = "app/set", files: dict[str, bytes] = FILES) -> None:
    s3server.publish(storage, files, last=LAST, prefix=prefix)


def content(storage: Storage, prefix: str = "app/set") -> dict[str, bytes]:
    return {info.key.removeprefix(f"{prefix}/"): storage.get(info.key) for info in storage.list(prefix)}


def leftovers(server: WeedServer, url: str) -> list[str]:
    """Every key under the prefix, markers included."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return [each["Key"] for each in server.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())]


# --- sending ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
@pytest.mark.parametrize("name", ["PUT part", "PUT", "POST create", "POST complete", "HEAD"])
def test_one_broken_connection_is_repeated_and_nothing_is_lost(
    between: Proxy, url: str, direct: Storage, name: str, fault: str
) -> None:
    """Also where the store did it and only its answer was lost: a conditional write then meets its own first attempt."""
    deed = Deed(reset_before=True) if fault == "reset_before" else Deed(reset_after=True)
    which = 1 if name in ("POST create", "POST complete") else 2
    between.rule = lambda request: deed if (request.name, request.number) == (name, which) else None
    publish(opened(url))
    assert len(between.names(name)) > 1
    assert content(direct) == {**FILES, LAST: b"{}"}


def test_a_lost_answer_to_the_last_file_is_no_failure(between: Proxy, url: str, direct: Storage) -> None:
    def lost(request: Request) -> Deed | None:
        return Deed(reset_after=True) if request.name == "PUT" and request.target.endswith(LAST) else None

    between.rule = lost
    publish(opened(url))
    assert content(direct) == {**FILES, LAST: b"{}"}


def test_a_slow_down_is_obeyed_and_repeated(between: Proxy, url: str, direct: Storage) -> None:
    between.rule = lambda request: Deed(answer=(503, SLOW_DOWN)) if request.name == "PUT part" and request.number < 3 else None
    publish(opened(url))
    assert content(direct) == {**FILES, LAST: b"{}"}


def test_a_store_that_never_stops_slowing_down_is_given_up(
    between: Proxy, url: str, direct: Storage, s3_server: WeedServer
) -> None:
    between.rule = lambda request: Deed(answer=(503, SLOW_DOWN)) if request.name == "PUT part" else None
    with pytest.raises(StorageError, match=r"slow down .*after 3 attempts") as caught:
        publish(opened(url, jobs=2))
    assert "s3.jobs" in caught.value.advice
    assert leftovers(s3_server, url) == []
    assert s3_server.uploads(url) == []


def test_a_connection_that_always_breaks_ends_the_set_and_leaves_nothing(
    between: Proxy, url: str, s3_server: WeedServer
) -> None:
    between.rule = lambda request: Deed(reset_before=True) if "partNumber=2&" in request.target + "&" else None
    with pytest.raises(StorageError, match="cannot be reached"):
        publish(opened(url))
    assert leftovers(s3_server, url) == []
    assert s3_server.uploads(url) == []


def test_a_stall_is_noticed(between: Proxy, url: str, direct: Storage) -> None:
    """The first attempt is never answered, the second goes through."""
    between.rule = lambda request: Deed(stall=True) if request.name == "PUT part" and request.number == 1 else None
    publish(opened(url))
    assert content(direct) == {**FILES, LAST: b"{}"}


@pytest.mark.parametrize("checksums", ["sha256", "when_required"])
@pytest.mark.parametrize("name", ["PUT part", "PUT"])
def test_what_is_changed_on_the_way_is_refused_by_the_store(
    between: Proxy, url: str, s3_server: WeedServer, name: str, checksums: str
) -> None:
    def flip(request: Request) -> Deed | None:
        return Deed(flip_sent=True) if request.name == name and "data/" in request.target else None

    between.rule = flip
    with pytest.raises(StorageError, match="what arrived is not what was sent"):
        publish(opened(url, checksums=checksums))
    assert leftovers(s3_server, url) == []
    assert s3_server.uploads(url) == []


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize(
    ("checksums", "read_back"), [("when_required", "auto"), ("when_required", "sample"), ("sha256", "all")]
)
def test_what_reads_back_otherwise_is_not_published(
    between: Proxy, url: str, s3_server: WeedServer, name: str, checksums: str, read_back: str
) -> None:
    between.rule = lambda request: Deed(flip_received=True) if request.name == "GET" and name in request.target else None
    with pytest.raises(StorageError, match="read back wrong"):
        publish(opened(url, checksums=checksums, read_back=read_back))
    assert between.names("GET")
    assert leftovers(s3_server, url) == []


def test_where_the_store_keeps_sha256_nothing_is_fetched_back(between: Proxy, url: str, direct: Storage) -> None:
    publish(opened(url))
    assert not between.names("GET")
    written = [r for r in between.seen if r.name in ("PUT", "PUT part")]
    assert len(written) == 1 + 3 + 1 + 1  # marker, parts, small, last
    assert all("x-amz-checksum-sha256" in r.headers for r in written)
    assert all(r.headers.get("if-none-match") == "*" for r in between.seen if r.name in ("PUT", "POST complete"))


def test_another_sha256_in_the_store_is_noticed(between: Proxy, url: str, direct: Storage, s3_server: WeedServer) -> None:
    """The object is exchanged, behind the toolkit's back, between its completion and the proof."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")

    def exchange(request: Request) -> None:
        if request.name == "HEAD" and request.target.endswith("data/large") and request.number:
            body = LARGE[:-1] + b"!"
            s3_server.client().put_object(
                Bucket=bucket, Key=f"{prefix}/app/set/data/large", Body=body, ChecksumAlgorithm="SHA256"
            )

    between.rule = exchange
    with pytest.raises(StorageError, match="read back wrong: the store's SHA-256"):
        publish(opened(url))


def test_parts_are_equal_and_as_few_as_the_endpoint_wants(between: Proxy, url: str, direct: Storage) -> None:
    publish(opened(url, max_parts=2))
    assert sorted(len(r.body) for r in between.names("PUT part")) == [len(LARGE) - 11 * MIB, 11 * MIB]
    assert content(direct)["data/large"] == LARGE


def test_a_file_that_changed_after_it_was_read_is_not_published(between: Proxy, url: str, s3_server: WeedServer) -> None:
    staging = opened(url).stage("app/set")
    (staging.path / "large").write_bytes(LARGE)
    staging.complete("large", "0" * 64)
    with pytest.raises(StorageError, match="is not the one that was read"):
        staging.publish(LAST, b"{}")
    staging.abandon()
    assert leftovers(s3_server, url) == []


def test_what_waits_is_counted_until_it_has_arrived(between: Proxy, url: str, direct: Storage) -> None:
    free = threading.Event()

    def hold(request: Request) -> None:
        if request.name == "PUT part" and "two" in request.target:
            assert free.wait(60)

    between.rule = hold
    staging = opened(url, read_timeout=timedelta(seconds=60)).stage("app/set")
    for name in ("one", "two"):
        (staging.path / name).write_bytes(LARGE)
        staging.complete(name)
    staging.drain(len(LARGE))
    assert staging.waiting == len(LARGE)
    assert [path.name for path in sorted(staging.path.iterdir())] == [".lock", "two"], "what has arrived is gone from the disk"
    free.set()
    staging.drain()
    assert staging.waiting == 0
    assert [path.name for path in staging.path.iterdir()] == [".lock"]
    staging.publish(LAST, b"{}")
    assert content(direct) == {"one": LARGE, "two": LARGE, LAST: b"{}"}


ANSWERS = [
    (400, "ExpiredToken", StorageError, "token has expired"),
    (403, "RequestTimeTooSkewed", StorageError, "clocks"),
    (403, "AccessDenied", StorageError, "s3:PutObject is wanted"),
    (404, "NoSuchUpload", StorageError, "aborted by somebody else"),
    (507, "InsufficientStorage", NoSpace, "the store says InsufficientStorage"),
    (400, "QuotaExceeded", NoSpace, "the store says QuotaExceeded"),
    (500, "InternalError", StorageError, "InternalError to UploadPart, after 3 attempts"),
]


@pytest.mark.parametrize(("status", "code", "kind", "text"), ANSWERS, ids=[code for _, code, _, _ in ANSWERS])
def test_answers_in_the_middle_are_explained_and_leave_nothing(
    between: Proxy, url: str, s3_server: WeedServer, status: int, code: str, kind: type[OpsError], text: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>said the store</Message></Error>".encode()
    between.rule = lambda request: Deed(answer=(status, body)) if request.name == "PUT part" else None
    with pytest.raises(kind, match=text) as caught:
        publish(opened(url))
    assert caught.value.advice
    assert s3_server.writer.secret not in repr(caught.value)
    assert leftovers(s3_server, url) == []
    assert s3_server.uploads(url) == []


def test_a_certificate_of_an_own_authority(s3_server: WeedServer, url: str, tmp_path: Path) -> None:
    certificate = tmp_path / "own.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=store"
    subprocess.run(
        [
            "openssl",
            *words.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            certificate,
            "-out",
            tmp_path / "cert",
        ],
        check=True,
        capture_output=True,
    )
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "cert").read_bytes())
    with proxy(s3_server.port, certificate) as server, environment(s3_server.environment(endpoint=server.endpoint)):
        with pytest.raises(StorageError, match="no trusted TLS connection") as caught:
            list(opened(url).list())
        assert "s3.ca_bundle" in caught.value.advice
        publish(opened(url, ca_bundle=tmp_path / "cert"))
        assert content(opened(url, ca_bundle=tmp_path / "cert")) == {**FILES, LAST: b"{}"}


# --- stores that lack things ----------------------------------------------------------------------------------------

_UNKNOWN = b"<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality</Message></Error>"


@pytest.mark.parametrize("header", ["x-amz-checksum-sha256", "if-none-match"])
def test_a_store_that_refuses_a_header_is_written_without_it(between: Proxy, url: str, direct: Storage, header: str) -> None:
    def refuse(request: Request) -> Deed | None:
        refused = header in request.headers or (
            header in "x-amz-checksum-sha256" and "x-amz-checksum-algorithm" in request.headers
        )
        return Deed(answer=(501, _UNKNOWN)) if refused else None

    between.rule = refuse
    publish(opened(url))
    assert content(direct) == {**FILES, LAST: b"{}"}
    storage = opened(url)
    with pytest.raises(StorageError, match="never overwritten"):
        storage.put(f"app/set/{LAST}", b"other")
    with pytest.raises(StorageError, match="never overwritten"):
        storage.stage("app/set")


# --- fetching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 5 * MIB])
def test_a_truncated_download_goes_on_where_it_broke(between: Proxy, url: str, direct: Storage, cut: int) -> None:
    publish(direct)
    between.rule = lambda request: Deed(cut_received=cut) if request.name == "GET" and request.number == 1 else None
    assert opened(url).get("app/set/data/large") == LARGE
    first, *rest = between.names("GET")
    assert "range" not in first.headers
    assert [r.headers["range"] for r in rest] == [f"bytes={cut}-{len(LARGE) - 1}"]
    assert "if-match" in rest[0].headers


def test_a_set_is_fetched_over_connections_that_keep_breaking(between: Proxy, url: str, direct: Storage) -> None:
    publish(direct)
    between.rule = lambda request: Deed(cut_received=3 * MIB) if request.name == "GET" else None
    with opened(url).local("app/set") as folder:
        assert (folder / "data/large").read_bytes() == LARGE
    assert not folder.exists()


def test_a_download_without_progress_is_given_up(between: Proxy, url: str, direct: Storage, tmp_path: Path) -> None:
    publish(direct)
    between.rule = lambda request: Deed(cut_received=10) if request.name == "GET" else None
    staging = tmp_path / "staging"
    with pytest.raises(StorageError, match="broke off at byte"), opened(url, staging=staging).local("app/set"):
        pass
    assert list(staging.iterdir()) == []


def test_a_stalled_download_goes_on(between: Proxy, url: str, direct: Storage) -> None:
    publish(direct)
    between.rule = lambda request: Deed(stall=True) if request.name == "GET" and request.number == 1 else None
    assert opened(url).get("app/set/data/large") == LARGE


def test_only_the_files_that_are_wanted_are_fetched(between: Proxy, url: str, direct: Storage) -> None:
    publish(direct)
    with opened(url).local("app/set", ["data/small"]) as folder:
        assert (folder / "data/small").read_bytes() == SMALL
    assert [r.target.rpartition("/")[2] for r in between.names("GET")] == ["small"]


def test_a_file_of_a_set_that_is_missing_is_named(between: Proxy, url: str, direct: Storage) -> None:
    publish(direct)
    with (
        pytest.raises(StorageError, match="data/nothing: there is no such object"),
        opened(url).local("app/set", ["data/nothing"]),
    ):
        pass
