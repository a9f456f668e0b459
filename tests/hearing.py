"""Services on loopback that listeners report to: one that records what it gets, and some that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Service:
    """``heard`` are (path, body) of the requests, ``answers`` the statuses of the next ones, then ``status``."""

    url: str
    heard: list[tuple[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    status: int = 200

    @property
    def address(self) -> str:
        return self.url.partition("://")[2]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.heard]


@contextlib.contextmanager
def recording() -> Iterator[Service]:
    """A service that takes everything and remembers it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            service.heard.append((self.path, body))
            self.send_response(service.answers.pop(0) if service.answers else service.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - http.server's name

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Service(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def _dripping(connection: socket.socket, over: threading.Event) -> None:
    """An answer that never comes to its end, and never makes a single read wait for long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        connection.sendall(b"x")


def _garbage(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(4096)
    connection.sendall(b"\x00\xff this is no HTTP\r\n\r\n")


_MANNERS: dict[str, Callable[[socket.socket, threading.Event], None]] = {
    "silent": _silent,
    "dripping": _dripping,
    "garbage": _garbage,
}


@contextlib.contextmanager
def misbehaving(manner: str) -> Iterator[str]:
    """The URL of a server that accepts and then is silent, drips a header for ever, or answers garbage."""
    over = threading.Event()

    def attend(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            _MANNERS[manner](connection, over)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def dead_url() -> str:
    """A port of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
