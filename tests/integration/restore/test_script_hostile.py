"""Plain SQL scripts that are cut short, fail, or want more than the database they are loaded into: nothing comes of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
import zstandard

from naap_ops import process
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import connect
from tests import restored
from tests.conftest import Servers
from tests.desk import Desk
from tests.scripts import PAIR, load, nothing_left


@pytest.fixture
def desk(any_filled: Desk) -> Desk:
    return any_filled


# --- cut short ------------------------------------------------------------------------------------------------------


def cuts(script: bytes) -> dict[str, int]:
    """Lengths to which a script is cut."""
    return {
        "nothing": 0,
        "one byte": 1,
        "head": script.index(b"SET row_security"),
        "a statement": script.index(b"CREATE TABLE public.t ") + 15,
        "before rows": script.index(b"COPY public.t "),
        "the COPY line": script.index(b"COPY public.t ") + 20,
        "rows": script.index(b"COPY public.t ") + 1000,
        "the end of rows": script.index(b"\n\\.\n") + 2,
        "between tables": script.index(b"\n\\.\n") + 4,
        "constraints": script.index(b"ADD CONSTRAINT") + 10,
        "the trailer": script.index(b"-- PostgreSQL database dump complete"),
        "in the trailer": script.index(b"dump complete") + 8,
    }


@pytest.mark.parametrize("name", range(12))
def test_cut_short_at_a_place(desk: Desk, script: bytes, name: int) -> None:
    where, length = list(cuts(script).items())[name]
    with nothing_left(desk):
        for words in (["--into", "new"], ["--swap"]):
            run = load(desk, script[:length], *words)
            assert run.code == 13, f"{where}: {run.err}"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress], ids=["gz", "zst"])
def test_a_compressed_file_cut_short_or_spoilt(desk: Desk, script: bytes, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(script)
    spoilt = bytearray(packed)
    spoilt[len(spoilt) // 2] ^= 4
    with nothing_left(desk):
        for content in (packed[: len(packed) // 2], packed[:-1], bytes(spoilt)):
            run = load(desk, content, "--swap")
            assert run.code == 13, run.err


def test_rows_that_do_not_arrive(desk: Desk, script: bytes) -> None:
    """A trigger of the script's own swallows every other row of it, which no error tells."""
    swallowing = b"""
create function public.swallow() returns trigger language plpgsql as 'begin return case when new.i % 2 = 0 then new end; end';
create trigger swallow before insert on public.t for each row execute function public.swallow();
"""
    at = script.index(b"-- Data for Name: r;") - 3
    references = script.index(b"-- Name: r r_i_fkey")
    whole = (
        script[:at]
        + swallowing
        + script[at : references - 3]
        + script[script.index(b"-- PostgreSQL database dump complete") - 3 :]
    )
    with nothing_left(desk):
        run = load(desk, whole, "--swap")
        assert run.code == 13, run.err
        assert "public.t has 50 rows, not 100" in run.json["message"]


# --- failing, hostile -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--swap"], ["--into", "new"]], ids=["swap", "into"])
def test_an_error_in_the_middle_leaves_nothing(desk: Desk, script: bytes, words: list[str]) -> None:
    broken = script.replace(b"ALTER TABLE ONLY public.t", b"SELECT 1/0;\nALTER TABLE ONLY public.t", 1)
    assert broken != script
    with nothing_left(desk):
        run = load(desk, broken, *words)
        assert run.code == 20, run.err
        assert "division by zero" in run.json["message"]


def test_a_commit_in_the_middle_does_not_leave_half_of_it(desk: Desk, script: bytes) -> None:
    broken = script.replace(b"ALTER TABLE ONLY public.t", b"COMMIT;\nSELECT 1/0;\nALTER TABLE ONLY public.t", 1)
    with nothing_left(desk):
        assert load(desk, broken, "--swap").code == 20


HOSTILE = (
    rb"\! touch X",
    rb"\o |touch X",
    rb"\set x `touch X`",
    rb"\copy public.word to program 'touch X'",
    rb"select 1 \g |touch X",
    rb"\i /dev/null" + b"\n" + rb"\! touch X",
    rb"\unrestrict KEY" + b"\n" + rb"\! touch X",
    rb"\unrestrict KEY" + b"\n" + rb"\restrict other" + b"\n" + rb"\unrestrict other" + b"\n" + rb"\! touch X",
)


@pytest.mark.parametrize("command", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("restrict", [True, False], ids=["restrict", "before restrict"])
def test_commands_to_psql_do_not_run(desk: Desk, script: bytes, command: bytes, restrict: bool) -> None:
    mark = desk.folder / "X"
    key = re.search(rb"^\\restrict (\w+)", script, re.MULTILINE)
    assert key
    script = script if restrict else PAIR.sub(b"", script)
    command = command.replace(b"KEY", key[1]).replace(b"touch X", f"touch {mark}".encode())
    places = (
        b"SET statement_timeout",
        b"ALTER TABLE ONLY public.t",
        b"--\n-- PostgreSQL database dump complete",
        b"--\n-- PostgreSQL database dump\n",
    )
    for place in places:
        assert place in script
        with nothing_left(desk):
            run = load(desk, script.replace(place, command + b"\n" + place, 1))
            assert not mark.exists()
            assert run.code in (13, 17, 20), run.err


def test_the_scripts_own_pair_is_no_way_out(desk: Desk, script: bytes) -> None:
    """Behind the trailer and behind \\unrestrict, where a shell would be free again."""
    mark = desk.folder / "X"
    with nothing_left(desk):
        for end in (b"", b"--\n\n"):
            run = load(desk, script + end + f"\\! touch {mark}\n".encode())
            assert run.code in (13, 17, 20)
            assert not mark.exists()


def test_a_pair_that_lies_across_the_pieces_read(desk: Desk, script: bytes) -> None:
    """Long rows push \\unrestrict to every offset around where a piece of the file may end."""
    assert desk.info is not None
    desk.sql("create table wide as select repeat('x', 1 << 16) s from generate_series(1, 17)")
    long = restored.dumped(desk.info)
    size = len(long)
    for offset in (0, 1, 5, 13, 40, 77):
        padding = b"-" * ((1 << 20) * (size // (1 << 20) + 1) - size + offset)
        at = long.rindex(b"--\n-- PostgreSQL database dump complete")
        run = load(desk, long[:at] + padding + b"\n\n" + long[at:], "--into", f"new{offset}")
        assert run.code == 0, run.err
        assert restored.tables(desk.info, f"new{offset}") == restored.tables(desk.info)


def test_scripts_that_leave_their_database(desk: Desk, any_server: ScratchServer) -> None:
    assert desk.info is not None
    tools = restored.tools(desk.info)
    command = tools.command("pg_dumpall", ["--no-role-passwords"], any_server.info)
    everything = process.run(command.argv, env=command.env)[1]
    with nothing_left(desk):
        for words in (["--into", "new"], ["--swap"]):
            run = load(desk, everything, *words)
            assert run.code == 17, run.err
            assert "pg_dumpall" in run.json["message"]
            run = load(desk, restored.dumped(desk.info, "--create"), *words)
            assert run.code == 17, run.err
            assert "--create" in run.json["message"]
            run = load(desk, restored.dumped(desk.info, "--create", "--clean"), *words)
            assert run.code == 17, run.err


def test_a_connect_hidden_deep_inside(desk: Desk, script: bytes) -> None:
    """Where only psql finds it: what comes behind it would go into another database."""
    hidden = b"\\connect postgres\ncreate table public.intruder ();\n"
    at = script.index(b"ALTER TABLE ONLY public.t")
    padded = script[:at] + b"-" * (1 << 17) + b"\n" + hidden + script[at:]
    with nothing_left(desk):
        assert load(desk, padded).code in (17, 20)
    assert desk.ask("select to_regclass('public.intruder')", "postgres") is None


def test_clean_without_if_exists_has_nothing_to_drop(desk: Desk) -> None:
    assert desk.info is not None
    with nothing_left(desk):
        run = load(desk, restored.dumped(desk.info, "--clean"), "--swap")
        assert run.code == 17, run.err


@pytest.mark.parametrize("flag", ["--no-owner", "--no-privileges"])
def test_flags_that_a_script_cannot_follow(desk: Desk, script: bytes, flag: str) -> None:
    """psql runs what is there: said at once, not found out by an error in the middle or, worse, ignored."""
    with nothing_left(desk):
        run = load(desk, script, "--swap", flag)
        assert run.code == 17, run.err
        assert flag in run.json["message"]
        backup = desk.backup(backup__format="plain")
        run = desk.run("restore", "--swap", "--yes", "--json", "--backup", backup.id, flag)
        assert run.code == 17, run.err


def test_a_missing_role(servers: Servers, desk: Desk) -> None:
    assert desk.info is not None
    desk.sql("create role nobody_here", 'alter table t owner to "nobody_here"')
    script = restored.dumped(desk.info)
    strange = servers.get(restored.tools(desk.info).major, "fresh")
    with restored.swept(strange.info):
        there = replace(desk, info=strange.info.with_dbname("there"))
        was = restored.databases(strange.info)
        run = load(there, script, "--swap")
        assert run.code == 17, run.err
        assert "nobody_here" in run.json["message"]
        assert restored.databases(strange.info) == was


def test_what_is_no_file(desk: Desk) -> None:
    os.mkfifo(desk.folder / "pipe")
    with nothing_left(desk):
        for name in ("missing.sql", ".", "pipe"):
            run = desk.run("restore", "--file", name, "--swap", "--yes", "--json")
            assert run.code == 2, run.err
            assert name == "missing.sql" or "pg_restore -f script.sql" in run.err


@pytest.mark.parametrize(("pack", "unpack"), [(lzma.compress, "xz -dk"), (bz2.compress, "bzip2 -dk")])
def test_packed_in_a_way_that_is_not_read(desk: Desk, script: bytes, pack: Callable[[bytes], bytes], unpack: str) -> None:
    (desk.folder / "s p.sql").write_bytes(pack(script))
    with nothing_left(desk):
        run = desk.run("restore", "--file", "s p.sql", "--swap", "--yes")
    assert run.code == 17
    assert f"{unpack} 's p.sql'" in run.err


def test_a_script_is_restored_whole(desk: Desk, script: bytes) -> None:
    with nothing_left(desk):
        assert load(desk, script, "--schema", "public").code == 2
        assert load(desk, script, "--table", "public.t").code == 2


def test_while_the_live_database_is_in_use(desk: Desk, script: bytes) -> None:
    """A script that cannot be loaded is found out before anybody's session is ended."""
    assert desk.info is not None
    with closing(connect(desk.info)) as application:
        assert load(desk, script[:-200], "--swap").code == 13
        assert application.execute("select 1").fetchone() == (1,)
