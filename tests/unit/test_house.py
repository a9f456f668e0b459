"""The plan of the house: imports go down, one door to subprocess, no room that collects everything, no heavy start."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "naap_ops"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)
DOOR = PACKAGE / "process.py"
COLLECTORS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
HEAVY = {"psycopg", "pydantic", "pydantic_settings", "jinja2", "rich", "zstandard", "isal", "hypothesis"} | {
    "apprise",
    "apscheduler",
    "boto3",
    "botocore",
    "prometheus_client",
    "requests",
}
# Ways to run a program without `subprocess`.
SPAWNING = re.compile(r"system|popen|fork|forkpty|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_module = pytest.mark.parametrize("path", MODULES, ids=named)


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of everything imported anywhere in a module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_imports_only_go_down() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_its_floor() -> None:
    """What the contract does not name, it does not hold."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floors = {room for layer in contract["layers"] for room in re.findall(r"naap_ops\.(\w+)", layer)}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__", "__main__"} == floors


@every_module
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a docstring: what it is, and why"


@every_module
def test_no_room_collects_everything(path: Path) -> None:
    assert not COLLECTORS & {part.removesuffix(".py") for part in path.relative_to(PACKAGE).parts}


@every_module
def test_one_door_to_other_programs(path: Path) -> None:
    if path == DOOR:
        return
    tree = ast.parse(path.read_text())
    assert not imported(tree) & {"subprocess", "pty", "multiprocessing"}
    calls = {f"os.{n.attr}" for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "os"}
    assert not {call for call in calls if SPAWNING.fullmatch(call.removeprefix("os."))}


def test_starting_up_loads_nothing_heavy() -> None:
    """`invoke --list` and shell completion pay for what task modules import."""
    source = "import sys, naap_ops.tasks, naap_ops.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
