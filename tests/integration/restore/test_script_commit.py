"""Scripts and their transaction: what psql takes without complaint is not taken for done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from naap_ops.restore import restricted
from tests import restored
from tests.desk import Desk, Run

TRAILER = "--\n-- PostgreSQL database dump complete\n--\n\n"


def restore(desk: Desk, path: Path, *words: str) -> Run:
    return desk.run("restore", "--file", str(path), "--yes", "--json", *(words or ("--swap",)))


def assert_refused(run: Run, code: int, *texts: str) -> None:
    assert run.code == code, run.err
    for text in texts:
        assert text in f"{run.json['message']} {run.json['hint']}"


@contextmanager
def untouched(desk: Desk) -> Iterator[None]:
    assert desk.info is not None
    before = restored.tables(desk.info), restored.databases(desk.info)
    yield
    assert (restored.tables(desk.info), restored.databases(desk.info)) == before


def write(desk: Desk, text: str | bytes, name: str = "a dump.sql") -> Path:
    path = desk.folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def dump(desk: Desk, *words: str) -> bytes:
    assert desk.info is not None
    return restored.dumped(desk.info, *words)


def test_a_plain_backup(any_filled: Desk) -> None:
    any_filled.backup(backup__format="plain")
    any_filled.sql("drop table word")
    run = any_filled.run("restore", "--swap", "--yes", "--json")
    assert run.code == 0, run.err
    assert any_filled.ask("select w from word") == "old"


@pytest.mark.parametrize("opening", ["/* ", "SELECT '", 'SELECT "', "SELECT $a$", "SELECT (1, "])
def test_the_end_of_the_script_cannot_swallow_the_commit(any_filled: Desk, opening: str) -> None:
    script = f"CREATE TABLE public.only_this (i int);\n{opening}\n{TRAILER}"
    with untouched(any_filled):
        assert restore(any_filled, write(any_filled, script)).code in (13, 20)


def test_a_statement_left_open_is_ended_before_the_commit(any_filled: Desk) -> None:
    """``SELECT 1 COMMIT;`` would be a statement of its own."""
    path = write(any_filled, f"CREATE TABLE public.only_this (i int);\nSELECT 1\n{TRAILER}")
    run = restore(any_filled, path)
    assert run.code == 0, run.err
    assert any_filled.ask("select count(*) from public.only_this") == 0


def test_a_script_with_its_own_transaction(any_filled: Desk) -> None:
    script = f"BEGIN;\nCREATE TABLE public.one (i int);\nCOMMIT;\nCREATE TABLE public.two (i int);\n{TRAILER}"
    run = restore(any_filled, write(any_filled, script))
    assert run.code == 0, run.err
    assert any_filled.ask("select count(*) from one, two") == 0


def test_a_script_that_takes_back_what_it_did(any_filled: Desk) -> None:
    script = f"CREATE TABLE public.one (i int);\nROLLBACK;\n{TRAILER}"
    with untouched(any_filled):
        assert_refused(restore(any_filled, write(any_filled, script)), 13, "nothing of it was kept")


def test_a_psql_without_the_restriction_is_told_of(any_filled: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterpart of the test above: what is tried there is harmful indeed."""
    monkeypatch.setattr(restricted, "knows_restrict", lambda tools: False)
    harm = tmp_path / "harm"
    script = dump(any_filled).decode().replace("SET client_min_messages", f"\\! touch {harm}\nSET client_min_messages", 1)
    path = write(any_filled, script)
    plan = any_filled.run("restore", "--file", str(path), "--swap", "--dry-run", "--json")
    assert "does not know \\restrict" in "\n".join(plan.json["plan"])
    assert not harm.exists()
    run = restore(any_filled, path, "--into", "new")
    assert run.code == 0, run.err
    assert harm.exists()
