"""What scripts rely on: one JSON object as the last line of stdout, people's text on stderr, the same by either program."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from invoke.collection import Collection

from naap_ops.tasks import ns
from tests.desk import BUG, INVOKE, PROGRAM, Desk

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = "\x1b"

BACKUP = {"id", "database", "path", "bytes", "seconds", "verified", "tables", "rows"}
LISTED = BACKUP | {"label", "kind", "scope", "format", "compression", "kept", "bad", "snapshot_at", "migrations"}
KEYS = {
    ("backup",): BACKUP,
    ("backup", "--dry-run"): {"dry_run", "database", "tables", "compression"},
    ("backup", "--all-databases"): {"backups"},
    ("backup.list",): {"backups"},
    ("backup.show", "latest"): LISTED | {"manifest"},
    ("backup.verify", "latest", "--grade", "hash"): {
        "id",
        "grade",
        "ok",
        "problems",
        "files",
        "bytes",
        "tables",
        "rows",
        "seconds",
    },
    ("backup.verify", "latest"): {"id", "grade", "ok", "problems", "files", "bytes", "tables", "rows", "seconds"},
    ("backup.keep", "latest"): LISTED,
    ("backup.prune",): {"removed", "would_remove", "decisions"},
    ("check",): {"status", "age_seconds", "reasons"},
    ("config",): {"settings"},
    ("schedule.list",): {"jobs"},
}


def tasks(collection: Collection = ns) -> Iterator[str]:
    """Every task as it is written on the command line, a collection's default by the collection's name."""
    yield from collection.task_names


@pytest.fixture
def backed_up(at_work: Desk) -> Desk:
    assert at_work.run("backup", "--label", "first").code == 0
    return at_work


# --- success --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", KEYS, ids=[" ".join(words) for words in KEYS])
def test_json_is_one_object_alone_on_stdout(backed_up: Desk, words: tuple[str, ...]) -> None:
    answer = backed_up.run(*words, "--json")
    assert answer.code == 0, answer.err
    assert answer.out.count("\n") == 1
    assert KEYS[words] <= set(answer.json)
    told = backed_up.run(*words)
    assert told.code == 0
    assert told.out.strip()  # without --json, people read stdout
    assert answer.err.strip()  # with it, they read stderr


def test_the_backups_object(at_work: Desk) -> None:
    found = at_work.run("backup", "--label", "x", "--json").json
    (backup,) = at_work.listed()
    assert found["id"] == backup.id
    assert found["database"] == backup.alias
    assert Path(found["path"]) == at_work.path(backup)
    assert (found["verified"], found["tables"], found["rows"], found["label"]) == ("read", 1, 3, "x")
    assert found["bytes"] == sum(
        p.stat().st_size for p in at_work.path(backup).rglob("*") if p.name != "manifest.json" and p.is_file()
    )
    assert 0 < found["seconds"] < 60


def test_lists_are_newest_first(backed_up: Desk) -> None:
    (first,) = backed_up.listed()
    older = backed_up.aged(first, timedelta(days=3))
    newer = backed_up.run("backup", "--json").json["id"]
    listed = backed_up.run("backup.list", "--json").json["backups"]
    assert [b["id"] for b in listed] == sorted([newer, first.id, older.id], reverse=True)
    assert all(set(b) >= LISTED for b in listed)
    text = backed_up.run("backup.list").out
    assert [line.split()[0] for line in text.splitlines()[1:]] == [b["id"] for b in listed]


def test_an_empty_list(at_work: Desk) -> None:
    answer = at_work.run("backup.list", "--json")
    assert (answer.code, answer.json) == (0, {"backups": []})
    assert "no backups in" in answer.err


def test_config_tells_value_and_source_and_no_secret(at_work: Desk) -> None:
    at_work.settings("[backup]\njobs = 3\n")
    url = "postgresql://u:hushhush@h/d"
    answer = at_work.run("config", "--json", "--url", url, NAAP_OPS_RETENTION__KEEP_LAST="5")
    settings = answer.json["settings"]
    assert settings["backup.jobs"] == {"value": 3, "source": "naap_ops.toml"}
    assert settings["retention.keep_last"] == {"value": 5, "source": "environment NAAP_OPS_RETENTION__KEEP_LAST"}
    assert settings["database_url"] == {"value": "postgresql://u:***@h/d", "source": "flag --url"}
    assert all(set(entry) == {"value", "source"} for entry in settings.values())
    assert "hushhush" not in answer.out + answer.err


# --- failure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("backup.show", "20200101"),
        ("backup.verify", "nothing"),
        ("backup", "--schema", "x"),
        ("backup.verify", "latest", "--grade", "x"),
    ],
)
def test_failures_as_json(backed_up: Desk, words: tuple[str, ...]) -> None:
    answer = backed_up.run(*words, "--json")
    assert answer.code != 0
    assert answer.out.count("\n") == 1
    assert set(answer.json) >= {"error", "code", "message", "hint"}
    assert answer.json["code"] == answer.code
    assert answer.json["message"] in answer.err
    without = backed_up.run(*words)
    assert (without.out, without.code) == ("", answer.code)
    assert without.err.startswith("naap_ops: ")


@pytest.mark.parametrize("words", [("backup", "--no-such-flag"), ("no.such.task",), ("backup.show",), ("backup", "--label")])
def test_command_lines_that_cannot_be_parsed(at_work: Desk, words: tuple[str, ...]) -> None:
    answer = at_work.run(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("naap-ops: ")


def test_config_names_listeners_that_will_not_hear(at_work: Desk) -> None:
    """A mistyped address is else noticed in the night in which it is needed."""
    urls = f"json://127.0.0.1:9/hook mailto://u:{'geheim' * 4}@ nonsense://x"
    answer = at_work.run("config", NAAP_OPS_NOTIFY__URLS=urls)
    assert answer.code == 0
    assert answer.err.count("tells nobody") == 2
    assert "mailto://*** tells nobody: " in answer.err
    assert "nonsense://*** tells nobody: " in answer.err
    assert "geheim" not in answer.err + answer.out
    assert at_work.run("config", NAAP_OPS_NOTIFY__URLS="json://127.0.0.1:9/hook").err == ""


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["backup.lst"], "Did you mean backup.list?"),
        (["restor"], "Did you mean restore?"),
        (["xyzzy"], "`naap-ops --list` shows the tasks"),
        (["backup", "--tabel", "x"], "`naap-ops --help backup.create` lists its flags"),
        (["schedule.export"], "`naap-ops --help schedule.export` lists its flags"),
    ],
)
def test_what_to_type_instead(at_work: Desk, words: list[str], advice: str) -> None:
    answer = at_work.run(*words, "--json")
    assert answer.code == 2
    assert advice in answer.err
    assert advice in answer.json["hint"]


def test_a_folder_that_is_gone(backed_up: Desk) -> None:
    argv0 = ("/bin/sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh", PROGRAM)
    answer = backed_up.program("backup.list", argv0=argv0)
    assert answer.code == 3, answer.err
    assert "is not there any more" in answer.err


def test_a_home_of_somebody_else(backed_up: Desk, tmp_path: Path) -> None:
    """Invoke reads a file of its own there, and is not asked to."""
    (tmp_path / "home" / ".invoke.yaml").mkdir(parents=True)
    answer = backed_up.program("backup.list", environ={"HOME": str(tmp_path / "home")})
    assert answer.code == 3
    assert ".invoke.yaml: Is a directory\n  Is HOME yours?" in answer.err


def test_unknown_flags_as_json(at_work: Desk) -> None:
    answer = at_work.run("backup", "--no-such-flag", "--json")
    assert (answer.code, answer.json["error"], answer.json["code"]) == (2, "UsageError", 2)


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "half"),
        ("--format", "tar"),
        ("--compression", "rar"),
        ("--verify", "maybe"),
        ("--jobs", "many"),
        ("--jobs", "0"),
        ("--lock-wait-timeout", "soon"),
        ("--database", "unknown"),
        ("--all-databases", "--url", "postgresql://h/d"),
        ("--label", "latest"),
    ],
)
def test_values_that_do_not_fit(at_work: Desk, words: tuple[str, ...]) -> None:
    answer = at_work.run("backup", *words)
    assert answer.code == 2, (answer.code, answer.err)
    assert not at_work.repo.exists()


@pytest.mark.parametrize("debug", [False, True])
def test_our_own_bugs(at_work: Desk, debug: bool) -> None:
    driver = at_work.folder / "bug.py"
    driver.write_text(BUG)
    environ = {"NAAP_OPS_DEBUG": "1"} if debug else {}
    answer = at_work.program("backup", "--json", argv0=(sys.executable, str(driver)), environ=environ)
    assert answer.code == 1
    assert answer.json["error"] == "InternalError"
    assert answer.json["message"].startswith("RuntimeError: no such thing at postgresql://u:***@h/d")
    assert "bug of naap_ops" in answer.err
    assert ("Traceback" in answer.err) == debug
    assert "hushhush" not in answer.out + answer.err


# --- seen and unseen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("backup",), ("backup.verify", "latest"), ("backup.list",), ("config",)])
def test_nobody_watching_means_no_bars_and_no_colours(backed_up: Desk, words: tuple[str, ...]) -> None:
    answer = backed_up.program(*words, environ={"TERM": "xterm-256color", "FORCE_COLOR": ""})
    assert answer.code == 0
    assert ESCAPE not in answer.out + answer.err
    assert "\r" not in answer.out + answer.err
    assert answer.err == ""


@pytest.mark.parametrize(
    "words", [("backup",), ("backup.verify", "latest"), ("backup.list",), ("backup.prune", "--yes"), ("config",)]
)
def test_quiet(backed_up: Desk, words: tuple[str, ...]) -> None:
    answer = backed_up.run(*words, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    both = backed_up.run(*words, "--quiet", "--json")
    assert (both.code, both.err) == (0, "")
    assert both.json


def test_somebody_watching_sees_a_bar(at_work: Desk) -> None:
    """On a terminal: a bar on stderr, gone in the end, and nothing of it on stdout."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [PROGRAM, "backup", "--json"],
        cwd=at_work.folder,
        env={**at_work.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    out = child.communicate(timeout=60)[0]
    assert child.returncode == 0, shown
    assert ESCAPE.encode() in shown
    assert b"1 table" in shown or b"1/1" in shown or b"backup" in shown
    assert json.loads(out)["rows"] == 3


@pytest.mark.parametrize("words", [("backup.list",), ("config",), ("backup", "--json"), ("--list",), ("restore", "--help")])
def test_a_reader_who_leaves_early(backed_up: Desk, words: tuple[str, ...]) -> None:
    """`naap-ops ... | head -0`: the work is done, and there is nothing to complain about."""
    before = len(backed_up.listed())
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [PROGRAM, *words],
        cwd=backed_up.folder,
        env=backed_up.environ,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert len(backed_up.listed()) == before + (words[0] == "backup")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(backed_up: Desk, closed: str) -> None:
    """Nothing that is opened gets their numbers: what pg_dump complains of is not written into a backup."""
    argv0 = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh", PROGRAM)
    answer = backed_up.program("backup", "--json", argv0=argv0)
    assert answer.code == 0, answer.err
    assert ">" in closed.replace("2>", "") or answer.json["rows"] == 3
    assert backed_up.run("backup.verify", "latest", "--grade", "restore").code == 0
    assert len(backed_up.listed()) == 2
    refused = backed_up.program("restore", "--swap", argv0=argv0)
    assert refused.code == 17, refused.err


@pytest.mark.parametrize("words", [("backup", "--json"), ("backup.list",), ("--list",)])
def test_output_that_does_not_fit_on_the_disk(backed_up: Desk, words: tuple[str, ...]) -> None:
    """The backup is made all the same; that a script did not get all of its answer is an exit code."""
    before = len(backed_up.listed())
    answer = backed_up.program(*words, argv0=("/bin/sh", "-c", 'exec "$@" > /dev/full', "sh", PROGRAM))
    assert answer.code == 9
    assert "No space left on device" in answer.err
    assert "Traceback" not in answer.err
    assert len(backed_up.listed()) == before + (words[0] == "backup")
    assert backed_up.program("backup.list", argv0=("/bin/sh", "-c", 'exec "$@" 2> /dev/full', "sh", PROGRAM)).code == 0


def test_a_terminal_that_goes_away(at_work: Desk) -> None:
    """The window is closed while the bar is drawn, and nohup keeps the work alive: it is done all the same."""
    at_work.sql("create table big as select i, repeat('x', 200) t from generate_series(1, 400000) i")
    ours, theirs = pty.openpty()
    words: list[str | Path] = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", PROGRAM, "backup", "--json"]
    child = subprocess.Popen(
        words,
        cwd=at_work.folder,
        env={**at_work.environ, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 1)  # the bar is there
    os.close(ours)
    out = child.communicate(timeout=60)[0]
    assert child.returncode == 0
    assert json.loads(out)["rows"] == 400003


def test_a_terminal_that_knows_no_umlauts(at_work: Desk) -> None:
    environ = {"PYTHONIOENCODING": "ascii"}
    answer = at_work.program("backup", "--label", "größe", "--json", environ=environ)
    assert answer.code == 0, answer.err
    assert answer.json["label"] == "größe"
    assert answer.out.isascii()
    listed = at_work.program("backup.list", environ=environ)
    assert listed.code == 0, listed.err
    assert "gr\\xf6\\xdfe" in listed.out


# --- one program, two names -------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(backed_up: Desk) -> Desk:
    """A folder with the project's own tasks.py, where `invoke` works."""
    shutil.copy(ROOT / "tasks.py", backed_up.folder)
    return backed_up


@pytest.mark.parametrize(
    "words",
    [
        ("backup.list", "--json"),
        ("backup.list",),
        ("config", "--json"),
        ("backup.show", "latest", "--json"),
        ("backup.show", "nothing", "--json"),
        ("backup", "--schema", "nothing", "--json"),
        ("backup", "--help"),
    ],
)
def test_naap_ops_and_invoke_agree(checkout: Desk, words: tuple[str, ...]) -> None:
    ours, theirs = (checkout.program(*words, argv0=(program,)) for program in (PROGRAM, INVOKE))
    assert ours.code == theirs.code
    assert (ours.out.replace("naap-ops", "inv[oke]") if "--help" in words else ours.out) == theirs.out
    assert ours.err == theirs.err


def test_outside_a_checkout(backed_up: Desk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = backed_up.program("backup.list", "--repo", str(backed_up.repo), "--json", cwd=elsewhere)
    assert answer.code == 0, answer.err
    assert len(answer.json["backups"]) == 1
    assert set(tasks()) <= set(re.findall(r"^  (\S+)", backed_up.program("--list", cwd=elsewhere).out, re.MULTILINE)) | {
        "backup",
        "restore",
        "reverse",
    }
    assert list(elsewhere.iterdir()) == []


def test_the_readmes_table_of_tasks_is_the_namespace() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([a-z.-]+)(?: [A-Z]+)?` \|", text, re.MULTILINE)
    assert len(table) == len(set(table))
    defaults = {"backup.create": "backup", "restore.run": "restore", "reverse.run": "reverse"}
    assert set(table) == {defaults.get(name, name) for name in tasks()}


@pytest.mark.parametrize("name", sorted(tasks()))
def test_help_behind_the_task_is_help(at_work: Desk, name: str) -> None:
    """Also where the task wants a word, for which Invoke would take it: `backup.show --help`."""
    asked = at_work.program("--help", name)
    assert asked.out.startswith("Usage: naap-ops")
    for words in ((name, "--help"), (name, "-h"), (name, "--help", "--json")):
        answer = at_work.program(*words)
        assert (answer.code, answer.err) == (0, ""), words
        assert answer.out == asked.out


@pytest.mark.parametrize("name", [*tasks()])
def test_every_task_has_help_with_an_example(at_work: Desk, name: str) -> None:
    answer = at_work.program("--help", name)
    assert answer.code == 0
    short = name.removesuffix(".create").removesuffix(".run")
    assert f"Example: invoke {short}" in answer.out
    flags = re.findall(r"^  (?:-\w[^,]*, )?--([a-z-]+)(?:=\w+)?(.*)$", answer.out, re.MULTILINE)
    assert "json" in dict(flags)
    assert [flag for flag, text in flags if not text.strip()] == []


def test_short_flags_stay_what_they_are() -> None:
    """Invoke would hand them out anew whenever a flag is added; scripts rely on them."""
    known = {"yes": "y", "database": "d", "jobs": "j", "quiet": "q"}
    for name in tasks():
        for argument in ns[name].get_arguments():
            assert argument.names[1:] == ((known[argument.names[0]],) if argument.names[0] in known else ()), name


def test_version(at_work: Desk) -> None:
    import naap_ops

    assert naap_ops.__version__ in at_work.run("--version").out
