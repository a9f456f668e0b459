"""Grounds for the tests of salvages: once per major, and on any one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.postgres.scratch import ScratchServer
from tests import salvaged
from tests.salvaged import Ground


@pytest.fixture
def ground(server: ScratchServer, tmp_path: Path) -> Iterator[Ground]:
    with salvaged.ground(server, tmp_path) as ground:
        yield ground


@pytest.fixture
def any_ground(any_server: ScratchServer, tmp_path: Path) -> Iterator[Ground]:
    with salvaged.ground(any_server, tmp_path) as ground:
        yield ground
