"""Ping URLs, in the form of healthchecks.io: ``URL/start``, ``URL``, ``URL/fail``, the one-line message as body.

The service on the other side cries when no ping comes, which is the only listener that notices a machine that is off.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

import naap_ops
from naap_ops import clock
from naap_ops.config import weburl
from naap_ops.events import Event
from naap_ops.listeners.record import OUTCOME, STARTED, JobOutcome

_DATABASE = "{database}"
_TRIES = 3


class NotPinged(Exception):
    """A ping that its service did not take."""


class Ping:
    """Pings the URL of the job, if it has one. A failed ping is tried again, as long as ``timeout`` (seconds) allows.

    A URL that names the database is pinged once for each of several, any other one once for the whole run.
    """

    def __init__(self, urls: Mapping[str, str], timeout: float) -> None:
        self._urls = urls
        self._timeout = timeout

    def __call__(self, event: Event) -> None:
        """Raises NotPinged."""
        url = self._urls.get(event.data["job"])
        if url is None:
            return
        if event.name == STARTED:
            database = event.data["database"]
            if database is not None or _DATABASE not in url:
                self._ping(_below(_of(url, database), "start"), "", tries=1)
        elif event.name == OUTCOME:
            outcome = JobOutcome.from_dict(event.data)
            for each in outcome.members if _DATABASE in url else [outcome]:
                here = _of(url, each.database)
                self._ping(here if each.ok else _below(here, "fail"), each.line(), tries=_TRIES)

    def _ping(self, url: str, body: str, *, tries: int) -> None:
        deadline = clock.monotonic() + self._timeout
        pause = threading.Event()
        for left in reversed(range(tries)):
            try:
                return self._post(url, body, max(0.1, (deadline - clock.monotonic()) / (left + 1)))
            except (OSError, HTTPException) as error:  # urllib's own failures are OSErrors; garbage for an answer is not
                final = isinstance(error, HTTPError) and error.code < 500  # asking again brings the same answer
                if final or not left or clock.monotonic() >= deadline:
                    raise NotPinged(f"{weburl.masked(url)}: {getattr(error, 'reason', None) or error}") from None
            pause.wait(min(1.0, max(0.0, deadline - clock.monotonic())))
        raise AssertionError(tries)

    def _post(self, url: str, body: str, timeout: float) -> None:
        headers = {"User-Agent": f"naap-ops/{naap_ops.__version__}", "Content-Type": "text/plain; charset=utf-8"}
        request = Request(url, body.encode(), headers)  # noqa: S310 - the settings allow http and https only
        urlopen(request, timeout=timeout).close()  # noqa: S310 - the status is enough: the body may never end


def _of(url: str, database: str | None) -> str:
    return url.replace(_DATABASE, quote(database or "", safe=""))


def _below(url: str, word: str) -> str:
    """``word`` appended to the path; a query stays behind it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/" + word))
