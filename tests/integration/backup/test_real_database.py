"""scratch"""

from __future__ import annotations
from tests.desk import Desk
from tests import samples
import pytest
from naap_ops.postgres.conninfo import ConnInfo


def test_x(database: ConnInfo, tmp_path) -> None:
    samples.naap(database)
    desk = Desk(tmp_path, database)
    b = desk.backup()
    print(b.sound.rows, len(b.sound.tables))
    for fmt in ("directory", "custom", "plain"):
        for kind in ("full", "schema", "data"):
            r = desk.run("backup", "--format", fmt, "--kind", kind, "--json")
            print(fmt, kind, r)
            assert r.code == 0
            r = desk.run("backup.verify", "latest", "--grade", "restore")
            print(fmt, kind, r)
            r = desk.run("backup", "--format", fmt, "--kind", kind, "--schema", "plugin_*", "--json")
            print(fmt, kind, r)
            assert r.code == 0
            r = desk.run("backup.verify", "latest", "--grade", "restore")
            print(fmt, kind, r)
    assert 0
