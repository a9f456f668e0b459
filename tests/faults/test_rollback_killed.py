"""SIGKILL at any instant of a rollback: --resume ends as if nothing had happened, --abort gives the state before.

An instant is before or after a statement, a line of the journal or a rename: the program counts them and kills itself at one.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from tests import rollbacks
from tests.desk import Run
from tests.integration.prisma.conftest import Site

LAST = 121

# Wraps what changes the world, counts, and dies at the instant whose number is given; prints how many there were.
SUICIDE = """
import os, signal, sys
import psycopg
from naap_ops import cli
from naap_ops.procedure.journal import Journal
from naap_ops.rollback import rollback as procedure

at, count, counting = int(sys.argv[1]), 0, False

def instant():
    global count
    count += counting
    if counting and count == at:
        os.kill(os.getpid(), signal.SIGKILL)

def around(function):
    def wrapped(*words, **named):
        instant()
        result = function(*words, **named)
        instant()
        return result
    return wrapped

psycopg.Connection.execute = around(psycopg.Connection.execute)
psycopg.Transaction._commit_gen = around(psycopg.Transaction._commit_gen)
Journal.note = around(Journal.note)
os.rename = around(os.rename)

def begun(function):
    def wrapped(*words, **named):
        global counting
        counting = True
        try:
            return function(*words, **named)
        finally:
            counting = False
            print(f"instants {count}", file=sys.stderr)
    return wrapped

procedure.rollback = begun(procedure.rollback)
cli.main(["naap-ops", *sys.argv[2:]])
"""


@pytest.fixture
def site(any_database: ConnInfo, tmp_path: Path) -> Site:
    return rollbacks.place(any_database, tmp_path)


def killed(site: Site, at: int) -> Run:
    return site.program("-c", SUICIDE, str(at), *rollbacks.WORDS, argv0=(sys.executable,))


def gone_on(site: Site, how: str) -> str:
    """Resume or abort what is unfinished; "" where nothing is."""
    done = site.run("rollback", f"--{how}", "--yes", "--json")
    assert done.code in (0, 11), done.err
    return how if done.code == 0 else ""


def test_there_are_as_many_instants_as_the_tests_try(site: Site) -> None:
    done = killed(site, 0)
    assert done.code == 0, done.err
    [line] = [line for line in done.err.splitlines() if line.startswith("instants ")]
    assert int(line.split()[1]) >= LAST, line


@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("part", range(4))
def test_killed_at_some_instants(site: Site, how: str, part: int) -> None:
    """One of four places, spread over the whole: the ordinary run's sample of the long test."""
    _killed_and_gone_on(site, how, at=8 + part * 22)


@pytest.mark.long
@pytest.mark.parametrize("how", ["resume", "abort"])
@pytest.mark.parametrize("at", range(1, LAST, 4))
def test_killed_at_every_fourth_instant(site: Site, how: str, at: int) -> None:
    _killed_and_gone_on(site, how, at)


def _killed_and_gone_on(site: Site, how: str, at: int) -> None:
    before = rollbacks.world(site)
    done = killed(site, at)
    went = gone_on(site, how)
    assert done.code == -signal.SIGKILL, done.err
    now = rollbacks.world(site)
    if went == "abort":
        assert now == before
        return
    if not went and now["folders"] == before["folders"]:  # killed before it was begun, or after it was over
        assert now == before
        again = site.run(*rollbacks.WORDS)
        assert again.code == 0, again.err
    rollbacks.assert_rolled_back(site)
