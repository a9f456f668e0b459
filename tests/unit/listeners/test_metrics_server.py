"""`/metrics` and `/healthz`, asked as Prometheus and a load balancer ask."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from naap_ops.errors import ConfigurationError
from naap_ops.listeners.metrics import Metrics
from naap_ops.listeners.metrics_server import MetricsServer
from tests.unit.listeners.conftest import event, outcome


def well() -> tuple[bool, dict[str, Any]]:
    return True, {"status": "ok"}


def get(server: MetricsServer, path: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urlopen(Request(f"http://{server.host}:{server.port}{path}", headers=headers), timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_those_of_now() -> None:
    metrics = Metrics()
    with MetricsServer("127.0.0.1", 0, metrics, well) as server:
        status, kind, text = get(server, "/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert "naap_ops_last_run_success{" not in text
        metrics(event(outcome()))
        assert 'naap_ops_last_run_success{database="naap",job="backup"} 1.0' in get(server, "/metrics?x=1")[2]
        assert get(server, "/metrics", Accept="application/openmetrics-text")[1].startswith("application/openmetrics-text")


def test_health_is_asked_each_time() -> None:
    facts = {"status": "ok"}
    with MetricsServer("127.0.0.1", 0, Metrics(), lambda: (facts["status"] == "ok", facts)) as server:
        assert get(server, "/healthz") == (200, "application/json", '{"status": "ok"}\n')
        facts["status"] = "no job has run since Tuesday"
        status, _, text = get(server, "/healthz")
        assert (status, json.loads(text)) == (503, facts)


def test_other_pages_are_not_there() -> None:
    with MetricsServer("127.0.0.1", 0, Metrics(), well) as server:
        assert get(server, "/")[0] == get(server, "/../etc/passwd")[0] == 404


def test_a_client_that_says_nothing_holds_up_nobody() -> None:
    with (
        MetricsServer("127.0.0.1", 0, Metrics(), well) as server,
        socket.create_connection((server.host, server.port)),
        socket.create_connection((server.host, server.port)) as half,
    ):
        half.sendall(b"GET /metr")
        assert get(server, "/healthz")[0] == 200


def test_start_and_stop() -> None:
    server = MetricsServer("127.0.0.1", 0, Metrics(), well)
    server.stop()
    server.start()
    port = server.port
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    again = MetricsServer("127.0.0.1", port, Metrics(), well)
    with again:
        assert get(again, "/healthz")[0] == 200


def test_an_address_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="in use"):
        MetricsServer("127.0.0.1", taken.getsockname()[1], Metrics(), well).start()
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        MetricsServer("no.such.host.invalid", 1, Metrics(), well).start()


def test_version_six_of_ip() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with MetricsServer("::1", 0, Metrics(), well) as server, socket.create_connection(("::1", server.port)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.makefile().readline().split()[1] == "200"
