"""Finding the client tools: small programs that only tell their version stand where installations would."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.errors import ConfigurationError, ToolMismatch, ToolMissing
from naap_ops.postgres import installed, remote
from naap_ops.postgres.conninfo import ConnInfo
from naap_ops.postgres.tools import TOOLS, Toolset, find_tools

INFO = ConnInfo(host="db.example", port=6000, user="u ser", dbname="d'b", password="s3cret pass", params={"sslmode": "require"})


@dataclass
class Settings:
    bindir: Path | None = None
    exec: Sequence[str] = field(default_factory=list)
    exec_host: str | None = None
    exec_port: int | None = None


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_tools(folder: Path, version: str, tools: Sequence[str] = TOOLS) -> Path:
    for tool in tools:
        program(folder / tool, f"echo '{tool} (PostgreSQL) {version}'")
    return folder


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH beside the system's; no other place has tools."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(installed, "_SYSTEM", (str(tmp_path / "system" / "{major}" / "bin"),))
    monkeypatch.setattr(installed, "_WHEELS", {})
    return folder


def test_tools_on_the_path(path: Path) -> None:
    fake_tools(path, "16.9")
    tools = find_tools(16, Settings())
    assert (tools.major, tools.version, tools.bindir, tools.origin, tools.remote) == (16, "16.9", path, "PATH", False)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, "15.18")),
        ("pg_dump (PostgreSQL) 19beta1", (19, "19beta1")),
        ("postgres (PostgreSQL) 18devel", (18, "18devel")),
        ("pg_dump (EnterpriseDB) 16.4.1", (16, "16.4.1")),
        ("something else 12", None),
    ],
)
def test_version_lines(line: str, version: tuple[int, str] | None) -> None:
    assert installed.parse_version(line) == version


def test_the_exact_major_further_down_the_path_wins(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tools(path, "17.1")
    second = fake_tools(tmp_path / "second", "16.3")
    monkeypatch.setenv("PATH", f"{path}:{second}")
    assert find_tools(16, Settings()).bindir == second


def test_debians_wrapper_is_passed_over(path: Path, tmp_path: Path) -> None:
    wrapper = program(tmp_path / "common" / "pg_wrapper", "echo 'pg_dump (PostgreSQL) 16.1'")
    for tool in TOOLS:
        (path / tool).symlink_to(wrapper)
    system = fake_tools(tmp_path / "system" / "16" / "bin", "16.9")
    tools = find_tools(16, Settings())
    assert (tools.bindir, tools.origin) == (system, str(system))


def test_a_folder_without_all_tools_is_passed_over(path: Path, tmp_path: Path) -> None:
    fake_tools(path, "16.1", tools=["pg_dump"])
    system = fake_tools(tmp_path / "system" / "16" / "bin", "16.9")
    assert find_tools(16, Settings()).bindir == system


def test_a_wheel_comes_last(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = fake_tools(tmp_path / "site" / "some_wheel" / "pginstall" / "bin", "16.2")
    (wheel.parents[1] / "__init__.py").write_text("raise AssertionError('found, not imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(installed, "_WHEELS", {"some_wheel": "some-wheel", "not_installed": "not-installed"})
    assert find_tools(16, Settings()).origin == "wheel some-wheel"
    fake_tools(tmp_path / "system" / "16" / "bin", "16.9")
    assert find_tools(16, Settings()).version == "16.9"


def test_nothing_fits_and_what_there_is_is_said(path: Path) -> None:
    fake_tools(path, "15.2")
    with pytest.raises(ToolMissing) as caught:
        find_tools(16, Settings())
    assert f"15.2 in {path}" in caught.value.text
    assert "postgresql-client-16" in caught.value.advice


@pytest.mark.parametrize(("version", "words"), [("15.2", "too old"), ("18.0", "too new")])
def test_a_configured_folder_of_another_major(tmp_path: Path, version: str, words: str) -> None:
    bindir = fake_tools(tmp_path / "bin", version)
    with pytest.raises(ToolMismatch) as caught:
        find_tools(16, Settings(bindir=bindir))
    for expected in (words, version, str(bindir), "16"):
        assert expected in caught.value.text


def test_a_configured_folder_with_one_tool_of_another_major(tmp_path: Path) -> None:
    fake_tools(tmp_path, "16.2", tools=["pg_dump", "psql"])
    fake_tools(tmp_path, "14.2", tools=["pg_restore"])
    with pytest.raises(ToolMismatch, match="pg_restore"):
        find_tools(16, Settings(bindir=tmp_path))


@pytest.mark.parametrize("body", ["exit 3", "echo nonsense", None])
def test_a_configured_folder_with_a_broken_tool(tmp_path: Path, body: str | None) -> None:
    fake_tools(tmp_path, "16.2", tools=["pg_dump", "psql"])
    if body is not None:
        program(tmp_path / "pg_restore", body)
    with pytest.raises(ToolMissing, match="pg_restore"):
        find_tools(16, Settings(bindir=tmp_path))


def test_a_configured_folder_outranks_the_path(path: Path, tmp_path: Path) -> None:
    fake_tools(path, "16.1")
    bindir = fake_tools(tmp_path / "bin", "16.2")
    tools = find_tools(16, Settings(bindir=bindir))
    assert (tools.version, tools.origin) == ("16.2", "tools.bindir")


def test_a_local_command_holds_no_secret_in_its_words(tmp_path: Path) -> None:
    tools = Toolset(major=16, version="16.1", bindir=tmp_path, prefix=(), origin="PATH")
    command = tools.command("pg_dump", ["-Fc", "-t", 'a "b"'], INFO)
    assert command.argv == (str(tmp_path / "pg_dump"), "-Fc", "-t", 'a "b"')
    assert command.env["PGPASSWORD"] == "s3cret pass"
    assert command.preamble == b""
    with pytest.raises(ValueError, match="remote"):
        tools.command("pg_restore", [], INFO, files={"list": b""})


# --- through a prefix -------------------------------------------------------------------------------------------------


def stand_in(tmp_path: Path, bindir: Path) -> list[str]:
    """What ``docker exec -i name`` does: drops its own words, runs the rest with an environment of its own."""
    script = program(tmp_path / "docker", f'shift 3; exec env -i PATH={shlex.quote(str(bindir))}:/usr/bin:/bin "$@"')
    return [str(script), "exec", "-i", "naap-db"]


def test_remote_tools(tmp_path: Path) -> None:
    prefix = stand_in(tmp_path, fake_tools(tmp_path / "bin", "16.7"))
    tools = find_tools(16, Settings(exec=prefix, bindir=tmp_path / "ignored"))
    assert (tools.version, tools.bindir, tools.prefix, tools.origin) == ("16.7", None, tuple(prefix), "tools.exec")
    with pytest.raises(ToolMismatch, match="too old"):
        find_tools(17, Settings(exec=prefix))


def test_remote_tools_that_do_not_answer(tmp_path: Path) -> None:
    script = program(tmp_path / "podman", "echo 'Error: No such container: x' >&2; exit 125")
    with pytest.raises(ToolMissing, match="No such container"):
        find_tools(16, Settings(exec=[str(script), "exec", "-i", "x"]))
    with pytest.raises(ToolMissing, match="no-such-program"):
        find_tools(16, Settings(exec=[str(tmp_path / "no-such-program")]))
    half = fake_tools(tmp_path / "half", "16.7")
    program(half / "pg_restore", "exit 127")
    with pytest.raises(ToolMissing):
        find_tools(16, Settings(exec=stand_in(tmp_path, half)))


def tell(folder: Path) -> Path:
    """A tool that tells as JSON what reached it."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / "psql"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "words = sys.argv[1:]\n"
        "files = {w: open(w, 'rb').read().decode('latin-1') for w in words if os.path.isfile(w)}\n"
        "modes = [oct(os.stat(w).st_mode & 0o777) for w in files]\n"
        "rest = sys.stdin.buffer.read().decode('latin-1')\n"
        "print(json.dumps([words, dict(os.environ), files, modes, rest]))\n"
        "sys.exit(7 if 'fail' in words else 0)\n"
    )
    tool.chmod(0o755)
    return folder


SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]
PASSWORDS = ["plain", "with space ", " 'quotes\" `$HOME` $(id) \\n \\", "100% ünï ☃", "-n", "a" * 5000]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("shell", SHELLS)
def test_what_reaches_the_other_end(tmp_path: Path, password: str, shell: str) -> None:
    _, words, environment, files, modes, rest, _ = _through(tmp_path, password, shell)
    assert "s3cret" not in json.dumps(words)
    assert environment["PGPASSWORD"] == password
    assert environment["PGUSER"] == "u ser"
    assert environment["PGDATABASE"] == "d'b"
    assert environment["PGHOST"] == "inside"
    assert environment["PGPORT"] == "7777"
    assert environment["PGSSLMODE"] == "require"
    assert "PARENT_ONLY" not in environment
    assert words[0] == "-L"
    assert files == {words[1]: "1; 2\n\0\r\nbin\xff", words[2]: ""}
    assert modes == ["0o600", "0o600"]
    assert words[3:] == ["a 'b' $c \\d", "", "*"]
    assert rest == "the rest\nof the input\0\xff"
    assert not Path(words[1]).exists()


def _through(
    tmp_path: Path, password: str, shell: str, *more: str
) -> tuple[int, list[str], dict[str, str], dict[str, str], list[str], str, str]:
    folder = tell(tmp_path / "there")
    (folder / "sh").symlink_to(str(shutil.which(shell)))
    if shell == "bash":  # and a dd that does not know fullblock
        program(folder / "dd", 'case $* in *fullblock*) exit 1 ;; esac; exec /bin/dd "$@"')
    info = ConnInfo(host="db", port=1, user="u ser", dbname="d'b", password=password, params={"sslmode": "require"})
    tools = Toolset(
        major=16, version="16", bindir=None, prefix=tuple(stand_in(tmp_path, folder)), origin="x", host="inside", port=7777
    )
    args = ["-L", "@files/list", "@files/empty", "a 'b' $c \\d", "", "*", *more]
    command = tools.command("psql", args, info, files={"list": b"1; 2\n\0\r\nbin\xff", "empty": b""})
    assert all(password not in word for word in command.argv) or password in ("-n", "plain")
    status, output, said = process.run(
        command.argv,
        env={**command.env, "PARENT_ONLY": "1"},
        input=command.preamble + b"the rest\nof the input\0\xff",
        check=False,
    )
    assert output, said
    return (status, *json.loads(output), said)


def test_the_exit_status_comes_back(tmp_path: Path) -> None:
    status, words, *_ = _through(tmp_path, "plain", SHELLS[0], "fail")
    assert status == 7
    assert not Path(words[1]).exists()


def test_without_password_and_files_the_tool_replaces_the_shell(tmp_path: Path) -> None:
    folder = tell(tmp_path / "there")
    tools = Toolset(major=16, version="16", bindir=None, prefix=tuple(stand_in(tmp_path, folder)), origin="x")
    info = ConnInfo(host="db", port=1, user=None, dbname="d", params={"sslmode": "require"})
    command = tools.command("psql", ["x"], info)
    _, output, _ = process.run(command.argv, env=command.env, input=command.preamble + b"rest")
    words, environment, _, _, rest = json.loads(output)
    assert (words, rest) == (["x"], "rest")
    assert not {"PGPASSWORD", "PGHOST", "PGPORT", "PGUSER", "PGSSLMODE"} & environment.keys()


def test_a_file_that_did_not_arrive_whole_is_an_error(tmp_path: Path) -> None:
    folder = tell(tmp_path / "there")
    tools = Toolset(major=16, version="16", bindir=None, prefix=tuple(stand_in(tmp_path, folder)), origin="x")
    command = tools.command("psql", ["@files/list"], INFO, files={"list": b"12345"})
    status, output, said = process.run(command.argv, env=command.env, input=command.preamble[:-1], check=False)
    assert (status, output) == (1, b"")
    assert "incomplete file list" in said


def test_what_cannot_be_sent() -> None:
    with pytest.raises(ConfigurationError):
        remote.preamble("two\nlines", {})
    with pytest.raises(ValueError, match="file name"):
        remote.preamble(None, {"../up": b""})
