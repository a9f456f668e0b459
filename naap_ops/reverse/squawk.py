"""squawk, the linter of migrations: finding its program, running it, and reading what it says."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from naap_ops import process
from naap_ops.errors import CommandFailed, ToolMissing

# What `squawk --exclude` of 2.70 accepts; the program has no list of its own to ask for.
RULES: Final = tuple(
    """
    adding-field-with-default adding-foreign-key-constraint adding-not-nullable-field adding-required-field
    adding-serial-primary-key-field ban-add-column ban-add-composite-attribute ban-add-enum-value
    ban-alter-database-options ban-alter-domain-with-add-constraint ban-alter-extension ban-alter-function-options
    ban-alter-generated-expression ban-alter-identity ban-alter-policy-condition ban-alter-policy-roles
    ban-alter-role-options ban-alter-row-level-security ban-alter-sequence-values ban-alter-system-options
    ban-alter-view-options ban-char-field ban-concurrent-index-creation-in-transaction ban-create-domain-with-constraint
    ban-create-policy ban-detach-inheritance ban-disable-trigger ban-drop-column ban-drop-constraint ban-drop-database
    ban-drop-default ban-drop-domain ban-drop-extension ban-drop-function ban-drop-generated-expression ban-drop-index
    ban-drop-not-null ban-drop-policy ban-drop-schema ban-drop-sequence ban-drop-table ban-drop-trigger ban-drop-type
    ban-drop-view ban-duplicate-column-assignments ban-new-write-restriction ban-replace-view-function
    ban-replica-identity ban-revoke ban-set-default ban-set-schema ban-truncate-cascade ban-uncommitted-transaction
    changing-column-type constraint-missing-not-valid disallowed-unique-constraint identifier-too-long
    prefer-bigint-over-int prefer-bigint-over-smallint prefer-identity prefer-repack prefer-robust-stmts
    prefer-text-field prefer-timestamp-tz renaming-column renaming-object renaming-table
    require-concurrent-index-creation require-concurrent-index-deletion require-concurrent-partition-detach
    require-concurrent-reindex require-enum-value-ordering require-lock-timeout require-statement-timeout
    require-table-schema require-timeout-settings transaction-nesting
    """.split()  # noqa: SIM905 - a column of names reads better than a list of quotes
)
_ANSWERED: Final = (0, 1)  # nothing found, something found


class SquawkMissing(ToolMissing):
    """The program of the wheel squawk-cli is not there. Fields: ``searched``."""

    message = "squawk was not found ({searched})"
    hint = "Install it beside naap-ops: pip install squawk-cli"


@dataclass(frozen=True)
class Finding:
    """What squawk says of one place. Line and column count from 1, the column in characters."""

    file: str
    line: int
    column: int
    rule: str
    level: str
    """``Warning`` or ``Error``."""
    message: str
    help: str


def find_squawk() -> Path:
    """The program: beside this Python's own (a wheel puts it there), else on PATH. Raises SquawkMissing."""
    beside = Path(sys.executable).with_name("squawk")
    if beside.is_file():
        return beside
    on_path = shutil.which("squawk")
    if on_path is None:
        raise SquawkMissing(searched=f"{beside.parent}, PATH")
    return Path(on_path)


def run(text: str, *, name: str, pg_version: str, in_transaction: bool = True) -> list[Finding]:
    """Lint a text. ``pg_version``: ``16`` or ``16.4``. Raises SquawkMissing, and CommandFailed if it did not work."""
    transaction = "--assume-in-transaction" if in_transaction else "--no-assume-in-transaction"
    words: list[str | Path] = [
        find_squawk(),
        "--reporter",
        "json",
        "--pg-version",
        pg_version,
        transaction,
        "--stdin-filepath",
        name,
    ]
    bare = text.removeprefix("\ufeff")
    status, output, stderr = process.run(words, input=bare.encode(), check=False)
    if status not in _ANSWERED:
        raise CommandFailed(tool="squawk", argv=shlex.join(map(str, words)), status=status, stderr=stderr)
    lines = bare.split("\n")
    return [_finding(each, lines) for each in json.loads(output or b"[]")]


def _finding(said: dict[str, Any], lines: list[str]) -> Finding:
    """squawk counts from 0, columns in bytes."""
    line = lines[said["line"]] if said["line"] < len(lines) else ""
    column = len(line.encode()[: said["column"]].decode("utf-8", "ignore"))
    return Finding(
        file=said["file"],
        line=said["line"] + 1,
        column=column + 1,
        rule=said["rule_name"],
        level=said["level"],
        message=said["message"],
        help=said["help"] or "",
    )
