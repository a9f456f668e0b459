"""scratch"""
from __future__ import annotations
from tests.desk import Desk
from tests import samples
import pytest
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.url import to_url

def test_x(database: ConnInfo, tmp_path) -> None:
    samples.naap(database)
    desk = Desk(tmp_path, database, {"NAAP_OPS_SCRATCH_URL": to_url(database)})
    b = desk.backup()
    print(b.sound.rows, len(b.sound.tables))
    for fmt in ("directory", "custom", "plain"):
        for kind in ("full", "schema", "data"):
          for sc in ([], ["--schema", "plugin_*"], ["--schema", "public"], ["--table", "User"]):
            r = desk.run("backup", "--format", fmt, "--kind", kind, "--json", *sc)
            if r.code: print(fmt, kind, sc, r)
            else: print(fmt, kind, sc, r.json["tables"], r.json["rows"])
            r = desk.run("backup.verify", "latest", "--grade", "restore")
            if r.code: print(fmt, kind, sc, r)
    assert 0
