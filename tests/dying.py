"""Programs that kill themselves, for tests: a process that is gone at a place of the code that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect

# Dies when the function of that name is called, or has returned.
AT = """
import importlib, os, signal, sys

when, place = sys.argv[1:3]
module, _, path = place.partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for each in owners:
    owner = getattr(owner, each)
function = getattr(owner, name)

def dying(*words, **named):
    if when == "after":
        function(*words, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, dying)
from naap_ops import cli
cli.main(["naap-ops", *sys.argv[3:]])
"""


@contextmanager
def shadows_gone(server: ScratchServer) -> Iterator[None]:
    """A process that is killed leaves its shadow behind until somebody sweeps."""
    query = "select datname from pg_database where datname like 'naap_shadow%'"
    with connect(server.info) as admin:
        before = admin.execute(query).fetchall()
        yield
        for (name,) in set(admin.execute(query).fetchall()) - set(before):
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
