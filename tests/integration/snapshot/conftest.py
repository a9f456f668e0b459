"""Desks for the tests of snapshots and drills, and a repository in a bucket of a real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.url import to_url
from tests import restored
from tests.desk import Desk
from tests.s3server import WeedServer


@pytest.fixture
def desk(any_database: ConnInfo, tmp_path: Path) -> Desk:
    """On a database with two tables, two tenants and a plugin."""
    desk = Desk(tmp_path, any_database)
    desk.sql(
        "create table t as select generate_series(1, 3) i", "create table u as select generate_series(1, 500) i, md5('') x"
    )
    for schema in ("tenant_acme", "tenant_globex", "plugin_wallet"):
        desk.sql(f"create schema {schema}", f"create table {schema}.t as select generate_series(1, 7) i")
    return desk


@pytest.fixture
def several(desk: Desk, any_server: ScratchServer) -> Iterator[Desk]:
    """Configured are three databases: one that is not there between two that are."""
    with restored.swept(any_server.info):
        other = restored.create(any_server.info, "snapshot other")
        assert desk.info is not None
        urls = {"first": desk.info, "gone": desk.info.with_dbname("no such database"), "last": other}
        desk.settings("".join(f'[databases.{name}]\nurl_env = "{name.upper()}_URL"\n' for name in urls))
        desk.extra |= {f"{name.upper()}_URL": to_url(info) for name, info in urls.items()}
        desk.info = None
        yield desk


@dataclass
class Bucket:
    """A prefix of a bucket as a repository; ``client`` is the administrator's."""

    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}/naap"

    def contents(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def one(self, end: str) -> str:
        """The only key that ends so."""
        [key] = [key for key in self.contents() if key.endswith(end)]
        return key

    def spoil(self, key: str) -> None:
        """Flip a bit in the middle of an object."""
        data = bytearray(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())
        data[len(data) // 2] ^= 1
        self.client.put_object(Bucket=self.name, Key=key, Body=bytes(data))


@pytest.fixture
def bucket(desk: Desk, s3_server: WeedServer) -> Bucket:
    """The desk's repository, in a bucket of its own."""
    bucket = Bucket(s3_server.bucket(), s3_server.client())
    desk.extra |= s3_server.environment()
    desk.extra["NAAP_OPS_REPOSITORY"] = bucket.url
    return bucket
