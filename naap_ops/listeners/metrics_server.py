"""`/metrics` and `/healthz` over HTTP, for a process that stays: the scheduler."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from naap_ops.errors import ConfigurationError
from naap_ops.listeners.metrics import Metrics

# Whether all is well, and what to say about it.
Health = Callable[[], tuple[bool, dict[str, Any]]]
# How long a client may take to send its request; a port scanner must not hold a thread for good.
_PATIENCE = 10.0


class MetricsServer:
    """Serves metrics and health on ``host:port`` (port 0: any free one, see ``port``) from :meth:`start` until :meth:`stop`.

    `/healthz` answers 200 or 503 with a JSON object. There is no authentication: bind it to loopback or an inner network.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, health: Health) -> None:
        self.host = host
        self.port = port
        self._metrics = metrics
        self._health = health
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen. Raises ConfigurationError where that address cannot be had."""
        try:
            self._server = _server(self.host, self.port, self._metrics, self._health)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(detail=f"cannot listen on {self.host}:{self.port}: {error}") from None
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening. Harmless when it does not."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> MetricsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _server(host: str, port: int, metrics: Metrics, health: Health) -> ThreadingHTTPServer:
    class Handler(_Handler):
        pages = {  # noqa: RUF012 - made anew for each server
            "/metrics": lambda accept: _metrics_page(metrics, accept),
            "/healthz": lambda _: _health_page(health),
        }

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False

    return Server((host, port), Handler)


Page = tuple[int, str, bytes]


def _metrics_page(metrics: Metrics, accept: str) -> Page:
    encoder, kind = choose_encoder(accept)
    return 200, kind, encoder(metrics.registry)


def _health_page(health: Health) -> Page:
    well, facts = health()
    return 200 if well else 503, "application/json", (json.dumps(facts, ensure_ascii=False, default=str) + "\n").encode()


class _Handler(BaseHTTPRequestHandler):
    pages: dict[str, Callable[[str], Page]]
    timeout = _PATIENCE
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, kind, body = page(self.headers.get("Accept", "")) if page else (404, "text/plain", b"/metrics and /healthz\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""
