"""What is dangerous in a migration, forward or reverse: squawk's rules and our own words, less what is allowed by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from naap_ops.errors import UsageError
from naap_ops.reverse import squawk
from naap_ops.reverse.dangers import WORDS, Danger, dangers
from naap_ops.reverse.script import Script
from naap_ops.reverse.squawk import RULES, Finding, find_squawk, run

__all__ = ["RULES", "WORDS", "Danger", "Finding", "Report", "UnknownName", "check", "dangers", "find_squawk", "run"]


class UnknownName(UsageError):
    """A name to allow that neither squawk nor we have. Fields: ``names``, ``known``."""

    message = "cannot allow what does not exist: {names}"
    hint = "Known are {known}"


@dataclass(frozen=True)
class Report:
    """What was found in a script and not allowed. ``allowed``: how often each allowed name was there."""

    name: str
    findings: tuple[Finding, ...]
    dangers: tuple[Danger, ...]
    allowed: dict[str, int]

    @property
    def clean(self) -> bool:
        return not self.findings and not self.dangers

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "findings": [vars(each) for each in self.findings],
            "dangers": [
                {"line": each.statement.line, "statement": each.statement.index, "danger": each.word, "reason": each.reason}
                for each in self.dangers
            ],
            "allowed": self.allowed,
        }


def check(script: Script, *, pg_version: str, allow: Iterable[str] = ()) -> Report:
    """Lint a script for a server of ``pg_version`` (``16`` or ``16.4``). ``allow``: names of squawk's rules and of WORDS.

    Raises UnknownName, ToolMissing (without squawk) and CommandFailed.
    """
    names = frozenset(allow)
    _must_be_known(names)
    found = squawk.run(script.text, name=script.name, pg_version=pg_version, in_transaction=_in_transaction(script))
    ours = dangers(script)
    all_names = [each.rule for each in found] + [each.word for each in ours]
    return Report(
        name=script.name,
        findings=tuple(each for each in found if each.rule not in names),
        dangers=tuple(each for each in ours if each.word not in names),
        allowed={name: all_names.count(name) for name in sorted(names) if name in all_names},
    )


def _in_transaction(script: Script) -> bool:
    """A file is sent as one simple query, hence one transaction, unless it is one statement that cannot run in one."""
    return len(script.statements) != 1 or script.statements[0].transactional


def _must_be_known(names: frozenset[str]) -> None:
    known = {*RULES, *WORDS}
    if names - known:
        raise UnknownName(names=", ".join(sorted(names - known)), known=", ".join(sorted(known)))
