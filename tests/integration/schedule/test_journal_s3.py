"""The journal in a bucket: of several claims at once one succeeds, also with keys that may not delete."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from naap_ops.backup.repository import Repository
from naap_ops.config.settings import Settings
from naap_ops.schedule.journal import Journal
from naap_ops.storage.base import Storage
from naap_ops.storage.registry import open_storage
from tests.s3server import WeedServer, environment

pytestmark = pytest.mark.long

DUE = datetime(2026, 11, 21, 3, tzinfo=UTC)


def opened(bucket: str) -> Storage:
    return open_storage(f"s3://{bucket}/naap", Settings())


def test_one_of_many_gets_the_run(s3_server: WeedServer) -> None:
    with environment(s3_server.environment()):
        bucket = s3_server.bucket()
        journals = [Journal(opened(bucket)) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for number in range(10):
                moment = DUE + timedelta(days=number)
                claims = pool.map(lambda each, due=moment: each.claim("snapshot", "naap", due, 1, lease=True), journals)
                assert sorted(claims) == [False, False, False, True]
        journals[0].end("snapshot", "naap", DUE, 1, code=0)
        assert journals[1].run("snapshot", "naap", DUE, 1).ok
        assert len(journals[1].dues("snapshot", "naap")) == 10
        assert Repository(opened(bucket)).aliases() == []


def test_without_the_right_to_delete_it_keeps_everything(s3_server: WeedServer) -> None:
    with environment(s3_server.environment()):
        bucket = s3_server.bucket()
        s3_server.forbid(bucket, "s3:DeleteObject")
    with environment(s3_server.environment(s3_server.writer)):
        journal = Journal(opened(bucket))
        for number in range(22):
            assert journal.claim("check", "naap", DUE + timedelta(days=number), 1, lease=True)
        journal.end("check", "naap", DUE + timedelta(days=21), 1, code=0)
        assert len(journal.dues("check", "naap")) == 22
        last = journal.last("check", "naap")
        assert last is not None
        assert last.ok
