"""A snapshot to a store, killed at any instant: nothing half-made is listed, the next run is clean, no parts are left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import restored
from tests.desk import Desk, wait_until
from tests.s3server import WeedServer

OURS = "select count(*) from pg_stat_activity where application_name like 'naap_ops %' and datname = current_database()"


class Store:
    """A bucket as repository of a desk, and what is in it."""

    def __init__(self, server: WeedServer, desk: Desk) -> None:
        self.name = server.bucket()
        self.client = server.client()
        self.staging = desk.folder / "staging"
        self.staging.mkdir()
        desk.extra |= server.environment()
        desk.extra |= {"NAAP_OPS_REPOSITORY": f"s3://{self.name}/naap", "NAAP_OPS_STAGING": str(self.staging)}

    def objects(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {found["Key"] for page in pages for found in page.get("Contents", ())}

    def uploads(self) -> list[str]:
        return [found["Key"] for found in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]

    def ids(self) -> set[str]:
        return {key.split("/")[2] for key in self.objects() if key.endswith("/manifest.json")}

    def whole(self, id: str) -> bool:
        """Whether every file of the manifest is there, as long as it says."""
        [prefix] = {key.rpartition("/")[0] for key in self.objects() if key.endswith(f"{id}/manifest.json")}
        manifest = json.loads(self.client.get_object(Bucket=self.name, Key=f"{prefix}/manifest.json")["Body"].read())
        sizes = {fact["path"]: fact["bytes"] for fact in manifest["files"]}
        found = {path: self.client.head_object(Bucket=self.name, Key=f"{prefix}/{path}")["ContentLength"] for path in sizes}
        return found == sizes


@pytest.fixture
def desk(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    with restored.swept(any_server.info):
        desk = Desk(tmp_path, restored.create(any_server.info, restored.NAME))
        desk.sql(
            # It hardly compresses: a stream begins its upload with the first whole part of 8 MiB.
            "create table a as select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 20) j)"
            " from generate_series(1, 40000) i",
            "create table b as select * from a",
            "create table c as select i from generate_series(1, 10) i",
        )
        yield desk


def kill_at_random(desk: Desk, store: Store, times: int, seed: int, *words: str) -> None:
    foreign = f"naap/{Path('notes.txt')}"
    store.client.put_object(Bucket=store.name, Key=foreign, Body=b"not ours")
    began = time.monotonic()
    assert desk.program("snapshot", *words).code == 0
    length = time.monotonic() - began
    dice = random.Random(seed)
    done = store.ids()
    left = 0
    for number in range(times):
        child = desk.spawn("snapshot", *words)
        time.sleep(length * 1.05 * (number + dice.random()) / times)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        now = store.ids()
        assert done <= now
        assert len(now - done) <= 1
        assert all(store.whole(id) for id in now - done)
        listed = desk.run("backup.list", "--json").json["backups"]
        assert {each["id"] for each in listed} == now
        left += bool(store.uploads())
        done = now
    wait_until(lambda: desk.ask(OURS) == 0)
    last = desk.run("snapshot", *words, "--json")
    assert last.code == 0, last.err
    assert store.uploads() == []
    assert list(store.staging.iterdir()) == []
    sets = {key.split("/")[2] for key in store.objects() if key.count("/") > 2 and not key.startswith("naap/.")}
    assert sets == store.ids() == {*done, last.json["id"]}
    assert foreign in store.objects()
    assert times < 10 or left > 0, "no kill hit an upload"


def test_at_three_instants(desk: Desk, s3_server: WeedServer) -> None:
    kill_at_random(desk, Store(s3_server, desk), 3, 1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("format", ["directory", "custom", "plain"])
def test_at_twenty_instants(desk: Desk, s3_server: WeedServer, format: str) -> None:
    kill_at_random(desk, Store(s3_server, desk), 20, 2, "--format", format)
