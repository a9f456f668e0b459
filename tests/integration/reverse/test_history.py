"""`invoke reverse.history`: every migration has a reverse or a reason, in however many parts and runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.desk import Desk, wait_until
from tests.integration.reverse.projects import AGE, DROP, INIT, Project

NAMES = ["1_init", "2_age", "3_no_email", "4_out", "5_fails", "6_more", "7_index"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    project = Project(Desk(tmp_path, None))
    texts = [
        INIT,
        AGE,
        DROP,
        "create role naap_reverse_escaped;",
        'alter table "nosuch" add x int;',
        "create table more (i int);",
    ]
    texts.append("create index concurrently more_i on more (i);")
    for name, text in zip(NAMES, texts, strict=True):
        project.add(name, text)
    (project.folder / "8_no_file").mkdir()
    return project.desk


def walk(desk: Desk, *words: str) -> dict[str, object]:
    run = desk.run("reverse.history", "--dir", "prisma/migrations", "--out", "out", "--json", *words)
    assert run.code == 0, run.err
    return run.json


def outcomes(desk: Desk) -> dict[str, str]:
    return {place.parent.name: place.name for place in sorted(desk.folder.glob("out/*/[dr]*.[st]*"))}


def test_every_migration_gets_one_or_the_other(desk: Desk) -> None:
    found = walk(desk, "--jobs", "2")
    assert (found["total"], found["proved"], found["refused"], found["failed"]) == (7, 5, 1, 1)
    families = found["by_family"]
    assert isinstance(families, dict)
    assert families["column"] == {"proved": 2, "refused": 0, "failed": 1}
    expected = dict.fromkeys(NAMES, "down.sql") | {"4_out": "refused.txt", "5_fails": "refused.txt"}
    assert outcomes(desk) == expected
    assert "whole server" in (desk.folder / "out/4_out/refused.txt").read_text()
    assert "statement 1 (line 1) failed" in (desk.folder / "out/5_fails/refused.txt").read_text()
    assert "-- naap: no transaction" in (desk.folder / "out/7_index/down.sql").read_text()
    assert json.loads((desk.folder / "out/2_age/down.json").read_bytes())["status"] == "proved"
    assert [entry.name for entry in (desk.folder / "out").iterdir() if entry.name.startswith(".")] == []


def test_parts_and_runs_make_no_difference(desk: Desk) -> None:
    walk(desk, "--jobs", "1")
    one = {name: body(desk, name) for name in outcomes(desk)}
    walk(desk, "--jobs", "3", "--again")
    assert {name: body(desk, name) for name in outcomes(desk)} == one


def body(desk: Desk, name: str) -> str:
    """Of a reverse: what follows its header, which has the time in it."""
    return (desk.folder / "out" / name / outcomes(desk)[name]).read_text().partition("\n\n")[2]


def test_what_is_finished_is_not_made_again(desk: Desk) -> None:
    walk(desk, "--jobs", "2")
    kept = stamps(desk)
    (desk.folder / "prisma/migrations/6_more/migration.sql").write_text("create table more (i bigint);")
    (desk.folder / "out/2_age/down.sql").write_text("-- spoilt")
    walk(desk, "--jobs", "2")
    changed = {name for name, stamp in stamps(desk).items() if stamp != kept[name]}
    assert changed == {"2_age", "6_more"}
    walk(desk, "--again")
    assert all(stamp != kept[name] for name, stamp in stamps(desk).items())


def stamps(desk: Desk) -> dict[str, int]:
    return {name: (desk.folder / "out" / name / "down.json").stat().st_mtime_ns for name in outcomes(desk)}


@pytest.mark.long
def test_killed_it_leaves_no_process_and_is_gone_on_with(desk: Desk) -> None:
    (desk.folder / "prisma/migrations/7_index/migration.sql").write_text("select pg_sleep(600);")
    child = desk.spawn("reverse.history", "--dir", "prisma/migrations", "--out", "out", "--jobs", "1")
    wait_until((desk.folder / "out/6_more/down.json").exists)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    wait_until(lambda: not any(b"naap_ops.reverse.history" in line and b"-m" in line for line in own(child.pid)))
    (desk.folder / "prisma/migrations/7_index/migration.sql").write_text("create index on more (i);")
    kept = stamps(desk)
    found = walk(desk)
    assert found["total"] == 7
    assert all(stamps(desk)[name] == stamp for name, stamp in kept.items())
    assert not (desk.folder / "out" / ".server").exists()


def own(group: int) -> list[bytes]:
    """Command lines of the process group of a child that was killed."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                found.append((path / "cmdline").read_bytes())
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def test_wrong_folders(desk: Desk) -> None:
    assert desk.run("reverse.history", "--dir", "nosuch", "--out", "out").code == 3
    (desk.folder / "file").write_text("")
    assert desk.run("reverse.history", "--dir", "prisma/migrations", "--out", "file").code == 9
    assert desk.run("reverse.history", "--dir", "prisma/migrations", "--out", "o", "--again", "--resume").code == 2
