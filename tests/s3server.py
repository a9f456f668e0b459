"""A real S3 store for the tests: SeaweedFS (`weed`, of the extra s3-server) on 127.0.0.1, with identities of different rights.

One server per test process, below its slot; every test has a bucket of its own. The server is stopped by its pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from naap_ops.storage.base import Storage

PATIENCE = 60.0  # seconds a start may take on a machine that is busy with other tests
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


# Few volumes per bucket, because every test may have its own; a key with which SSE-S3 works.
ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "WEED_S3_SSE_KEY": "for tests only"}


@dataclass(frozen=True)
class Keys:
    """One identity: what goes into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""

    access: str
    secret: str


def _keys(name: str) -> Keys:
    return Keys(f"AKTEST{name.upper():_<14}", f"secret-of-{name}-{secrets.token_hex(12)}")


class WeedServer:
    """`weed server -s3` in ``folder``. ``start`` and ``stop`` may be called again: the data and the ports stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.admin = _keys("admin")
        self.writer = _keys("writer")  # may do anything with objects
        self.no_list = _keys("nolist")  # puts and reads
        self.reader = _keys("reader")
        self.shared = ""  # a bucket in which each test takes a prefix of its own
        self._ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._ports["s3.port"]

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers a signed request."""
        if not self._ports:
            self._end_left_over()
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / "identities.json").write_text(json.dumps(self._identities()))
        for attempt in range(5):  # a free port may be taken by another before the server binds it
            if not self._ports or attempt:
                self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
            if self._launch():
                self.shared = self.shared or self.bucket()
                return
        raise RuntimeError(f"weed did not start:\n{self._log()}")

    def _end_left_over(self) -> None:
        """End the server of a test run that was killed: by its pid, if that is still a server in this folder."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    def _launch(self) -> bool:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                self._argv(), cwd=self.folder, env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        (self.folder / "pid").write_text(str(self._process.pid))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(Exception):
                self._ready()
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _ready(self) -> None:
        """Raises unless the whole chain works, an object's bytes written to a volume included."""
        name = "ready-" + secrets.token_hex(4)
        client = self.client(patience=5)
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="x", Body=b"x" * 10)
        client.delete_object(Bucket=name, Key="x")
        client.delete_bucket(Bucket=name)

    def _argv(self) -> list[str]:
        ports = [f"-{name}={number}" for name, number in self._ports.items()]
        return [
            program(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.preStopSeconds=0",
            "-volume.minFreeSpace=1", "-filer", f"-filer.localSocket={self.folder / 'filer.sock'}",
            "-s3", f"-s3.config={self.folder / 'identities.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.peers=none", "-s3.autoCreateBucket=false", f"-s3.localSocket={self.folder / 's3.sock'}", *ports,
        ]  # fmt: skip

    def _identities(self) -> dict[str, Any]:
        rights = {
            self.admin: ["Admin"],
            self.writer: ["Read", "Write", "List", "Tagging"],
            self.no_list: ["Read", "Write"],
            self.reader: ["Read", "List"],
        }
        return {
            "identities": [
                {"name": k.access, "credentials": [{"accessKey": k.access, "secretKey": k.secret}], "actions": actions}
                for k, actions in rights.items()
            ]
        }

    def bucket(self, **options: Any) -> str:
        """A new bucket."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name, **options)
        return name

    def uploads(self, url: str) -> list[str]:
        """What has been begun in parts below ``s3://bucket/prefix`` and neither completed nor aborted: names relative to it."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        found = self.client().list_multipart_uploads(Bucket=bucket, Prefix=prefix)
        return [upload["Key"].removeprefix(f"{prefix}/") for upload in found.get("Uploads", ())]

    def forbid(self, bucket: str, *actions: str) -> None:
        """Deny actions in a bucket to everybody but the administrator."""
        everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        statement = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": everything}
        self.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    def environment(self, keys: Keys | None = None, *, endpoint: str | None = None) -> dict[str, str]:
        """What tools of AWS need in their environment to come here, and nowhere else."""
        keys = keys or self.writer
        return {
            "AWS_ACCESS_KEY_ID": keys.access,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_ENDPOINT_URL_S3": endpoint or self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, keys: Keys | None = None, *, endpoint: str | None = None, patience: float = 60) -> Any:
        """A boto3 client that retries nothing: what the store answers is what the test sees."""
        import boto3
        from botocore.config import Config

        keys = keys or self.admin
        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=patience,
            read_timeout=patience,
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=keys.access,
            aws_secret_access_key=keys.secret,
            config=config,
        )

    def stop(self) -> None:
        """End the process this object started, by its pid."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-4000:]
        return ""


def program() -> str:
    """The `weed` of this environment, else of PATH; without one the test is skipped."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        pytest.skip("weed (extra s3-server) is not installed")
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set for the block: the processes that a test starts see it too."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def publish(storage: Storage, contents: Mapping[str, bytes], *, last: str, prefix: str = "app/set") -> None:
    """Publish a set of files, or leave nothing of it."""
    staging = storage.stage(prefix)
    try:
        for name, content in contents.items():
            path = staging.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            staging.complete(name)
        staging.publish(last, b"{}")
    finally:
        staging.abandon()
