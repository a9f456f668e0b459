"""Pings to a real server on loopback, in the form of healthchecks.io."""

from __future__ import annotations

import pytest

from naap_ops.listeners.ping import NotPinged, Ping
from tests.hearing import Service, dead_url, misbehaving
from tests.unit.listeners.conftest import event, outcome, several, started

UUID = "6f1c2a34-90ab-4cde-8f12-34567890abcd"


def test_start_success_and_fail(service: Service) -> None:
    ping = Ping({"backup": f"{service.url}/{UUID}"}, 10)
    ping(started())
    ping(event(outcome()))
    ping(event(outcome(failed=True)))
    assert service.paths == [f"/{UUID}/start", f"/{UUID}", f"/{UUID}/fail"]
    assert [body for _, body in service.heard] == ["", outcome().line(), outcome(failed=True).line()]


def test_some_of_several_failed_is_a_failure_and_one_ping(service: Service) -> None:
    whole = several(outcome(), outcome(database="b", failed=True))
    Ping({"backup": service.url + "/x"}, 10)(event(whole))
    assert service.heard == [("/x/fail", whole.line())]


def test_a_url_that_names_the_database_is_pinged_for_each(service: Service) -> None:
    ping = Ping({"backup": service.url + "/backup-{database}"}, 10)
    ping(started(database=None))
    ping(event(several(outcome(database="a"), outcome(database="b", failed=True))))
    assert service.paths == ["/backup-a", "/backup-b/fail"]


def test_only_the_jobs_that_have_a_url(service: Service) -> None:
    ping = Ping({"prune": service.url}, 10)
    ping(event(outcome("backup")))
    assert service.heard == []
    ping(event(outcome("prune")))
    assert len(service.heard) == 1


def test_a_query_stays_behind_and_the_database_is_filled_in(service: Service) -> None:
    ping = Ping({"backup": service.url + "/key/backup-{database}?create=1"}, 10)
    ping(started(database="a b/ü"))
    assert service.paths == ["/key/backup-a%20b%2F%C3%BC/start?create=1"]


def test_an_outcome_is_tried_again_a_start_is_not(service: Service) -> None:
    ping = Ping({"backup": service.url + "/x"}, 30)
    service.answers = [503]
    with pytest.raises(NotPinged, match="Service Unavailable"):
        ping(started())
    service.answers = [503, 502]
    ping(event(outcome()))
    assert service.paths == ["/x/start", "/x", "/x", "/x"]


def test_a_refusal_is_final(service: Service) -> None:
    service.status = 404
    with pytest.raises(NotPinged, match="Not Found"):
        Ping({"backup": service.url + "/x"}, 30)(event(outcome()))
    assert len(service.heard) == 1


@pytest.mark.parametrize("manner", ["silent", "garbage"])
def test_servers_that_misbehave(manner: str) -> None:
    with misbehaving(manner) as url, pytest.raises(NotPinged) as caught:
        Ping({"backup": f"{url}/{UUID}"}, 0.5)(event(outcome()))
    assert UUID not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(NotPinged, match="Connection refused"):
        Ping({"backup": dead_url()}, 0.5)(event(outcome()))
