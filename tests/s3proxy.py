"""A proxy on loopback between the toolkit and a store: it reads every request and can spoil what it likes.

The store speaks plain HTTP; with a certificate the proxy speaks TLS to the toolkit. A rule gets a request and says what is
to happen to it; without a rule all is passed on.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Request:
    """What came. ``number`` counts the requests for which ``name`` is the same, from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    number: int = 0

    @property
    def name(self) -> str:
        """PUT part, PUT, POST create, POST complete, GET, GET list, HEAD, DELETE, DELETE upload."""
        query = self.target.partition("?")[2]
        if self.method == "PUT":
            return "PUT part" if "partNumber=" in query else "PUT"
        if self.method == "POST":
            return "POST create" if "uploads" in query else "POST complete"
        if self.method == "DELETE":
            return "DELETE upload" if "uploadId=" in query else "DELETE"
        if self.method == "GET" and ("list-type" in query or "uploads" in query or "uploadId" in query):
            return "GET list"
        return self.method


@dataclass(frozen=True)
class Deed:
    """What is done to a request. Nothing set: it is passed on."""

    answer: tuple[int, bytes] | None = None  # status and body, instead of the store's
    reset_before: bool = False  # the connection breaks before the store sees the request
    reset_after: bool = False  # the store has done it, its answer is lost
    stall: bool = False  # neither passed on nor answered until the proxy stops
    flip_sent: bool = False  # one bit of the request's body
    flip_received: bool = False  # one bit of the answer's body
    cut_received: int | None = None  # the answer's body ends after so many bytes


Rule = Callable[[Request], Deed | None]


class Proxy:
    """Listens on 127.0.0.1; ``endpoint`` is its URL. ``seen`` are the requests so far."""

    def __init__(self, upstream: int, certificate: Path | None = None) -> None:
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:  # with its key in the same file
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.rule: Rule = lambda _: None
        self.seen: list[Request] = []

    @property
    def endpoint(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def names(self, name: str) -> list[Request]:
        return [request for request in self.seen if request.name == name]

    def start(self) -> None:
        self._thread(self._accept)

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _thread(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._thread(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with contextlib.suppress(OSError, EOFError), self._secured(client) as secured, secured.makefile("rb") as stream:
                while not self._stopped.is_set() and self._one(secured, stream):
                    pass
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()

    def _secured(self, client: socket.socket) -> socket.socket:
        return client if self._tls is None else self._tls.wrap_socket(client, server_side=True)

    def _one(self, client: socket.socket, stream: BinaryIO) -> bool:
        """Serve a request. Whether the connection stays."""
        head, request = self._read(client, stream)
        with self._lock:
            self._counts[request.name] = request.number = self._counts.get(request.name, 0) + 1
            self.seen.append(request)
        deed = self.rule(request) or Deed()
        if deed.stall:
            self._stopped.wait()
            return False
        if deed.reset_before:
            return _reset(client)
        if deed.answer is not None:
            status, body = deed.answer
            client.sendall(b"HTTP/1.1 %d Spoilt\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
            return True
        body = _flipped(request.body) if deed.flip_sent else request.body
        answer_head, answer = _asked(self._upstream, head, body, has_body=request.method != "HEAD")
        if deed.reset_after:
            return _reset(client)
        answer = _flipped(answer) if deed.flip_received else answer
        client.sendall(answer_head + answer[: deed.cut_received])
        return deed.cut_received is None

    def _read(self, client: socket.socket, stream: BinaryIO) -> tuple[bytes, Request]:
        lines = _head(stream)
        method, target, _ = lines[0].decode().split(" ", 2)
        headers = _headers(lines)
        if headers.get("expect") == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = stream.read(int(headers.get("content-length", 0)))
        kept = [line for line in lines if not line.lower().startswith((b"expect:", b"connection:"))]
        head = b"".join(line + b"\r\n" for line in [*kept, b"Connection: close"]) + b"\r\n"
        return head, Request(method, target, headers, body)


def _head(stream: BinaryIO) -> list[bytes]:
    """The lines up to the empty one. Raises EOFError at the connection's end."""
    lines: list[bytes] = []
    while line := stream.readline():
        if line == b"\r\n":
            return lines
        lines.append(line.removesuffix(b"\r\n"))
    raise EOFError


def _headers(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
    return {name.lower(): value.strip() for name, _, value in pairs}


def _asked(port: int, head: bytes, body: bytes, *, has_body: bool) -> tuple[bytes, bytes]:
    """The store's answer: its head, fit to be passed on, and its body."""
    with socket.create_connection(("127.0.0.1", port)) as upstream, upstream.makefile("rb") as stream:
        upstream.sendall(head + body)
        lines = _head(stream)
        while lines[0].split()[1] == b"100":
            lines = _head(stream)
        answer = stream.read() if has_body and lines[0].split()[1] not in (b"204", b"304") else b""
        if "chunked" in _headers(lines).get("transfer-encoding", ""):
            answer = _unchunked(answer)
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"transfer-encoding:"))]
    if "content-length" not in _headers(lines):
        kept.append(b"Content-Length: %d" % len(answer))
    return b"".join(line + b"\r\n" for line in kept) + b"\r\n", answer


def _unchunked(raw: bytes) -> bytes:
    whole = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        count = int(size.partition(b";")[0], 16)
        whole, raw = whole + raw[:count], raw[count + 2 :]
        if not count:
            break
    return whole


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _reset(client: socket.socket) -> bool:
    """End the connection by RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


@contextlib.contextmanager
def proxy(upstream: int, certificate: Path | None = None) -> Iterator[Proxy]:
    """A proxy before the store at that port, for the length of the block."""
    server = Proxy(upstream, certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()
