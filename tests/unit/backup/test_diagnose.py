"""What pg_dump says, as the kind of failure it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.backup.engines.base import diagnose
from naap_ops.errors import Blocked, CommandFailed

TIMED_OUT = "pg_dump: error: query failed: ERROR:  canceling statement due to {} timeout\npg_dump: detail: Query was: {}"
LOCK = "LOCK TABLE public.t IN ACCESS SHARE MODE"


@pytest.mark.parametrize(
    ("what", "query", "kind"),
    [
        ("statement", LOCK, Blocked),
        ("statement", "SELECT pg_catalog.set_config('search_path', '', false);", CommandFailed),
        ("lock", "SELECT rolname FROM pg_roles", Blocked),
    ],
)
def test_only_a_wait_for_a_lock_is_one(tmp_path: Path, what: str, query: str, kind: type) -> None:
    error = CommandFailed(tool="pg_dump", status=1, argv="pg_dump", stderr=TIMED_OUT.format(what, query))
    assert type(diagnose(error, tmp_path, "h:1", "u")) is kind
