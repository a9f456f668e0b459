"""The tree of failures, and that DESIGN.md's table of exit codes says the same."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path
from string import Formatter

import pytest

import naap_ops
from naap_ops import redact
from naap_ops.errors import Busy, CommandFailed, ForwardFailed, OpsError, Partial, ServerUnreachable, tree

for _module in pkgutil.walk_packages(naap_ops.__path__, "naap_ops."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)  # failures defined beside their use belong to the tree too

CLASSES = tree()
DESIGN = Path(__file__).parents[2] / "DESIGN.md"
SUCCESS = (0, "ok")


def table() -> dict[int, str]:
    section = DESIGN.read_text().split("## 6. Exit codes")[1].split("\n## ")[0]
    return {int(code): name for code, name in re.findall(r"^\| (\d+) \| (\w+) \|", section, re.MULTILINE)}


PARTIAL = Partial(done=[{"id": "x"}], failed={"app": Busy(what="backup", holder="pid 1")})
FORWARD = ForwardFailed(name="<name>", statement=2, line=3, sql="<sql>", reason="<reason>", sqlstate="42P01", applied=1)
WHOLE = {Partial: PARTIAL, ForwardFailed: FORWARD}
"""Failures that make facts of their message from what they are given."""


def filled(kind: type[OpsError]) -> OpsError:
    if kind in WHOLE:
        return WHOLE[kind]
    fields = {name for text in (kind.message, kind.hint) for _, name, _, _ in Formatter().parse(text) if name}
    return kind(**{name: f"<{name}>" for name in fields})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_failure_tells_its_facts_and_stands_in_the_table(kind: type[OpsError]) -> None:
    error = filled(kind)
    assert table()[error.exit_code] == error.name
    facts = {name for _, name, _, _ in Formatter().parse(kind.message) if name}
    assert kind in WHOLE or all(f"<{name}>" in error.text for name in facts)
    told = error.as_dict()
    assert (told["error"], told["code"], told["message"], told["hint"]) == (
        kind.__name__,
        error.exit_code,
        error.text,
        error.advice,
    )
    assert json.dumps(told)
    assert str(error) == error.text


def test_a_partial_failure_says_what_is_done_and_what_is_not() -> None:
    assert PARTIAL.text == "1 of 2 failed: app: backup is already running: pid 1"
    told = PARTIAL.as_dict()
    assert (told["done"], told["failed"]["app"]["code"]) == ([{"id": "x"}], Busy.exit_code)


def test_a_failed_migration_says_where_why_and_what_had_been_committed() -> None:
    assert FORWARD.text.splitlines() == [
        "<name> does not run on the shadow: statement 2 (line 3) failed: <reason>",
        "<sql>",
        "1 statement before it had been committed.",
    ]
    told = FORWARD.as_dict()
    assert (told["error"], told["code"]) == ("ForwardFailed", ForwardFailed.exit_code)


def test_every_code_of_the_table_has_its_failure() -> None:
    in_code = {(kind.exit_code, kind.name) for kind in CLASSES} | {SUCCESS}
    assert in_code == set(table().items())


@pytest.mark.parametrize("kind", [k for k in CLASSES if k.exit_code not in (1, 13, 17, 18, 19, 130)], ids=lambda k: k.__name__)
def test_every_failure_that_can_be_helped_has_a_hint(kind: type[OpsError]) -> None:
    assert filled(kind).advice


def test_a_hint_for_the_case_replaces_the_general_one() -> None:
    assert ServerUnreachable(address="h", reason="r", hint="Start it.").advice == "Start it."


def test_braces_in_facts_are_taken_as_they_are() -> None:
    assert "{x} {0}" in CommandFailed(tool="pg_dump", argv="pg_dump {x}", status=1, stderr="{x} {0}").text


@pytest.mark.usefixtures("_no_lasting_secrets")
def test_secrets_are_in_no_text_of_a_failure() -> None:
    redact.register("hunter2!")
    error = CommandFailed(tool="psql", argv="psql hunter2!", status=1, stderr="FATAL: hunter2! is wrong", hint="try hunter2!")
    assert "hunter2!" not in f"{error} {error.text} {error.advice} {error.as_dict()} {error.args}"
