"""The door to subprocess: what failed is told in full but for secrets, and nothing outlives its block."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from naap_ops import process, redact
from naap_ops.errors import CommandFailed, ToolMissing

SLEEP = ["sleep", "600"]


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_lasting_secrets")
def test_a_failure_tells_command_status_and_stderr_but_no_secret() -> None:
    redact.register("hunter2!")
    script = "echo 'no entry for postgres://u:pw9@h/db, hunter2!' >&2; exit 3"
    with pytest.raises(CommandFailed) as caught:
        process.run(["sh", "-c", script, "--password=geheim", "it's", "hunter2!"])
    fields = caught.value.fields
    assert (fields["tool"], fields["status"]) == ("sh", 3)
    assert fields["stderr"] == "no entry for postgres://u:***@h/db, ***"
    assert shlex.split(fields["argv"])[-3:] == ["--password=***", "it's", "***"]
    told = f"{caught.value.text} {caught.value.advice} {caught.value.as_dict()}"
    assert not any(secret in told for secret in ("hunter2!", "pw9", "geheim"))


def test_only_the_end_of_stderr_is_kept_but_every_line_is_heard() -> None:
    heard: list[str] = []
    with process.start(shell("seq 1 5000 >&2; printf last >&2; exit 1"), on_stderr=heard.append) as child:
        assert child.wait() == 1
    assert child.stderr_tail.splitlines() == [*(str(n) for n in range(4962, 5001)), "last"]
    assert heard == [*(str(n) for n in range(1, 5001)), "last"]


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    _, _, stderr = process.run([sys.executable, "-c", r"import os; os.write(2, b'a\xff\r\nb')"])
    assert stderr == "a\ufffd\r\nb"


def test_a_silent_failure_says_so() -> None:
    with pytest.raises(CommandFailed, match="false failed with status 1: \\(it said nothing\\)"):
        process.run(["false"])


def test_a_signal_is_a_negative_status() -> None:
    status, _, _ = process.run(shell("kill -9 $$"), check=False)
    assert status == -9


def test_unchecked_the_status_is_the_callers_business() -> None:
    assert process.run(shell("echo out; echo err >&2; exit 7"), check=False) == (7, b"out\n", "err")


def test_check_passes_on_success_and_raises_otherwise() -> None:
    with process.start(["true"]) as child:
        child.check()
    with process.start(shell("exit 4")) as child, pytest.raises(CommandFailed):
        child.check()


@pytest.mark.parametrize("name", ["/no/such/tool", "no-such-tool", "/etc", "/etc/passwd/x"])
def test_a_command_that_is_not_there(name: str) -> None:
    with pytest.raises(ToolMissing) as caught:
        process.start([name])
    assert caught.value.exit_code == 8
    assert name in caught.value.text


def test_a_listener_that_fails_is_told_and_does_not_stop_the_child() -> None:
    def failing(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError, match="1"), process.start(shell("seq 1 500000 >&2"), on_stderr=failing) as child:
        child.check()
    assert child.poll() == 0, "it wrote all of it, more than a pipe holds"


# --- lifetimes ----------------------------------------------------------------------------------------------------


def left_by_interrupt(argv: list[str]) -> process.Child:
    """A child whose block was left by Ctrl-C once it had said something."""
    with contextlib.suppress(KeyboardInterrupt), process.start(argv, stdout=process.PIPE) as child:
        child.stdout.readline()
        assert alive(child.pid)
        raise KeyboardInterrupt
    return child


def test_leaving_by_an_exception_ends_the_child() -> None:
    child = left_by_interrupt(shell("echo ready; exec sleep 600"))
    assert not alive(child.pid)
    assert child.poll() == -15


def test_a_child_that_ignores_the_polite_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.2)
    child = left_by_interrupt(shell("trap '' TERM; echo ready; exec sleep 600"))
    assert child.poll() == -9


def test_leaving_normally_waits_for_the_child() -> None:
    with process.start(shell("read x; exit 5"), stdin=process.PIPE) as child:
        child.stdin.write(b"go\n")
    assert child.poll() == 5
    child.stop()
    assert child.poll() == 5


def test_a_grandchild_that_keeps_stderr_open_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a pg_restore that was killed. What the child itself has said is all there."""
    monkeypatch.setattr(process, "_GRACE_SECONDS", 600.0)
    status, output, said = process.run(shell("sleep 600 >/dev/null & echo $!; seq 1 20000 >&2; kill -9 $$"), check=False)
    try:
        assert status == -9
        assert said.endswith("20000")
        assert alive(int(output))
    finally:
        os.kill(int(output), 9)


def test_ctrl_c_reaches_the_child_because_it_stays_in_our_group() -> None:
    with process.start(SLEEP) as child:
        assert os.getpgid(child.pid) == os.getpgid(0)
        child.stop()


# --- pipes --------------------------------------------------------------------------------------------------------

MUCH = os.urandom(1 << 20) * 8


def test_much_in_and_out_and_aside_at_once() -> None:
    status, output, stderr = process.run(shell("seq 1 300000 >&2; tee /dev/stderr"), input=MUCH)
    assert (status, output == MUCH) == (0, True)
    assert stderr


def test_input_that_is_not_wanted_is_no_error() -> None:
    for _ in range(20):
        assert process.run(["true"], input=MUCH)[0] == 0
    with pytest.raises(CommandFailed):
        process.run(["false"], input=MUCH)
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]


def test_without_input_the_child_reads_nothing() -> None:
    assert process.run(["cat"]) == (0, b"", "")
    assert process.run(["cat"], input=b"") == (0, b"", "")


def test_leaving_while_the_child_still_writes(tmp_path: Path) -> None:
    with process.start(["yes"], stdout=process.PIPE) as child:
        assert child.stdout.read(4) == b"y\ny\n"
    assert child.poll() not in (None, 0), "the closed pipe ended it"


CROWDED = """
import fcntl, os
from naap_ops import process
pipes = []
while True:  # until this user may have no more large pipes
    pipes.append(os.pipe())
    try:
        fcntl.fcntl(pipes[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)
    except PermissionError:
        break
print(process.run(["cat"], input=b"x" * 100_000)[1].count(b"x"))
"""


def test_large_pipes_are_a_wish_not_a_condition(as_nobody: Callable[[str], str]) -> None:
    """Linux limits the pipe pages of a user (pipe-user-pages-soft); dumping goes on with small ones."""
    assert as_nobody(CROWDED) == "100000\n"


# --- environment --------------------------------------------------------------------------------------------------


def test_the_callers_pg_variables_do_not_reach_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPASSWORD", "PGSERVICE", "PGOPTIONS", "PGSSLMODE", "PGDATABASE"):
        monkeypatch.setenv(name, "the caller's")
    for name in ("PGPASSFILE", "PGSERVICEFILE", "PGSYSCONFDIR"):
        monkeypatch.setenv(name, "/the/callers")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("HOME", "/home/caller")
    _, output, _ = process.run(["env"], env={"PGHOST": "ours", "X": "y"})
    found = dict(line.split("=", 1) for line in output.decode().splitlines())
    assert {name: value for name, value in found.items() if name.startswith("PG")} == {
        "PGHOST": "ours",
        "PGTZ": "UTC",
        "PGPASSFILE": "/the/callers",
        "PGSERVICEFILE": "/the/callers",
        "PGSYSCONFDIR": "/the/callers",
    }
    assert (found["LC_ALL"], found["LANGUAGE"], found["X"]) == ("C.UTF-8", "C", "y")
    assert found["HOME"] == "/home/caller"


def test_folder_and_user_of_the_child(tmp_path: Path) -> None:
    assert process.run(["pwd"], cwd=tmp_path)[1] == f"{tmp_path}\n".encode()
    if os.geteuid() == 0:
        assert process.run(["id", "-u"], user=65534, group=65534, cwd=Path("/"))[1] == b"65534\n"
        assert process.run(["id", "-G"], user=65534, group=65534, cwd=Path("/"))[1] == b"65534\n"


def test_the_pipe_is_closed_before_the_child_is_waited_for() -> None:
    """A child that ends when its input does."""
    with process.start(["cat"], stdin=process.PIPE, stdout=subprocess.DEVNULL) as child:
        child.stdin.write(b"x")
    assert child.poll() == 0
