"""The S3 store that is measured against: SeaweedFS on loopback, as the tests start it, and a relay before it.

A bucket is made anew for each run and removed with all its volumes, so that no run inherits what an earlier one left. The relay
counts what the store sends, and can slow down what is sent to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.lab import HOME
from tests.s3server import WeedServer

_FOLDER = HOME / "weed"
_PID = HOME / "weed.pid"
_PREFIX = "naap"
_PIECE = 1 << 16


class Store:
    """``with Store() as store:`` a running store."""

    def __init__(self) -> None:
        self._server = WeedServer(_FOLDER)

    def __enter__(self) -> Store:
        clean()
        HOME.mkdir(exist_ok=True)
        self._server.start()
        _PID.write_text(str(self._server.pid), encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()
        clean()

    @property
    def port(self) -> int:
        return self._server.port

    @contextlib.contextmanager
    def bucket(self) -> Iterator[str]:
        """A new bucket in which an object has been written already: the store makes its volume with the first one."""
        name = self._server.bucket()
        client = self._server.client()
        try:
            client.put_object(Bucket=name, Key="first", Body=b"x")
            client.delete_object(Bucket=name, Key="first")
            yield name
        finally:
            client.delete_bucket(Bucket=name)

    def environment(self, bucket: str, *, through: Relay | None = None) -> dict[str, str]:
        """For the programs of both sides: keys, endpoint, and the repository in that bucket."""
        endpoint = None if through is None else through.endpoint
        return self._server.environment(endpoint=endpoint) | {"NAAP_OPS_REPOSITORY": f"s3://{bucket}/{_PREFIX}"}

    def manifest(self, bucket: str, result: dict[str, Any]) -> dict[str, Any]:
        """The manifest of the backup that ``snapshot --json`` has told of."""
        key = result["url"].removeprefix(f"s3://{bucket}/") + "/manifest.json"
        body = self._server.client().get_object(Bucket=bucket, Key=key)["Body"]
        loaded: dict[str, Any] = json.loads(body.read())
        return loaded

    @contextlib.contextmanager
    def relay(self, *, bytes_per_second: float | None = None) -> Iterator[Relay]:
        """A relay before the store for the length of the block."""
        relay = Relay(self.port, bytes_per_second)
        try:
            yield relay
        finally:
            relay.stop()


class Relay:
    """Passes TCP on to ``port``. ``sent_back`` are the bytes that came from there, headers and listings included.

    ``bytes_per_second`` limits what goes there, over all connections together.
    """

    def __init__(self, port: int, bytes_per_second: float | None) -> None:
        self.sent_back = 0
        self._port = port
        self._rate = bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                upstream = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, upstream}
            threading.Thread(target=self._pump, args=(client, upstream, self._slow), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client, self._count), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, seen: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                seen(len(data))
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent_back += size

    def _slow(self, size: int) -> None:
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            pause = self._free_at - time.monotonic()
        time.sleep(pause)


def clean() -> None:
    """Remove the store's data, and end a store that a killed run has left, by its own command line."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_PID.read_text(encoding="utf-8"))
        if str(_FOLDER).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _PID.unlink(missing_ok=True)


def encryption(folder: Path) -> dict[str, str]:
    """The settings with which backups are encrypted, and opened again, by a fresh key kept in ``folder``."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    key = folder / "key.txt"
    key.write_text(f"{identity}\n", encoding="utf-8")
    key.chmod(0o600)
    return {
        "NAAP_OPS_ENCRYPTION__RECIPIENTS": str(identity.to_public()),
        "NAAP_OPS_ENCRYPTION__IDENTITY_FILE": str(key),
    }
