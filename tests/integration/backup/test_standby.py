"""A backup taken from a standby, to spare the primary: the same rows, and the position that the standby has reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.url import to_url
from tests.desk import Desk, wait_until


class Standby(ScratchServer):
    """A server made by pg_basebackup, following the one it was made from."""

    primary: ConnInfo

    def _initdb(self) -> None:
        argv: list[str | Path] = [
            self.bindir / "pg_basebackup",
            "-D",
            self.data,
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        ]
        process.run(argv, env=self.primary.tool_env(), **self._account.options())
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write("\ninclude 'scratch.conf'\nhot_standby_feedback = on\n")


@pytest.fixture
def standby(any_server: ScratchServer, tmp_path: Path) -> Iterator[Desk]:
    """A desk on the standby of a primary of its own, which is small."""
    config = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on", "synchronous_commit": "on"}
    with ScratchServer(any_server.bindir, tmp_path / "primary", config=config) as primary:
        desk = Desk(tmp_path, primary.info)
        desk.sql(
            "create table t as select generate_series(1, 100) i",
            "create unlogged table fleeting as select 1 i",
            "create table parent (i int) partition by range (i)",
            "create table child partition of parent for values from (0) to (9)",
            "insert into parent values (1), (2)",
        )
        other = Standby(any_server.bindir, tmp_path / "standby", config=config)
        other.primary = primary.info
        with other:
            copy = Desk(tmp_path, other.info)
            desk.sql("select pg_switch_wal()")  # an idle primary keeps the last of it to itself for a while
            reached = desk.ask("select pg_current_wal_flush_lsn()")
            wait_until(lambda: copy.ask(f"select pg_last_wal_replay_lsn() >= '{reached}'"))
            yield copy


def test_a_backup_of_a_standby(standby: Desk, any_server: ScratchServer) -> None:
    for format in ("directory", "custom", "plain"):
        answer = standby.run("backup", "--format", format, "--json")
        assert answer.code == 0, answer.err
        manifest = standby.listed()[0].sound
        assert manifest.server["in_recovery"] is True
        # Unlogged tables are empty there, and pg_dump leaves out their rows.
        assert {t.name: t.rows for t in manifest.tables} == {"t": 100, "parent": None, "child": 2, "fleeting": None}
        assert standby.ask(f"select '{manifest.wal_lsn}'::pg_lsn <= pg_last_wal_replay_lsn()")
    checked = standby.run("backup.verify", "latest", "--grade", "restore", NAAP_OPS_SCRATCH_URL=to_url(any_server.info))
    assert checked.code == 0, checked.err
