"""One table, two tables; and nobody who tells a number says otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from naap_ops.wording import count_of

PACKAGE = Path(__file__).parents[2] / "naap_ops"
# A number that may be one, in front of a noun that is always of many.
COUNTED = re.compile(
    r"\{[^{}]*(?:len\(|count|rows|tables|files|found|size|bytes|:,)[^{}]*\} (?:rows|tables|files|bytes|parts|databases)\b"
)


@pytest.mark.parametrize(("number", "text"), [(0, "0 tables"), (1, "1 table"), (2, "2 tables"), (1234, "1,234 tables")])
def test_one_and_many(number: int, text: str) -> None:
    assert count_of(number, "table") == text


def test_everybody_counts_so() -> None:
    found = {path.relative_to(PACKAGE): COUNTED.findall(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    allowed = {Path("restore/fence.py"), Path("restore/whole.py"), Path("backup/health.py")}  # always many
    assert {path: texts for path, texts in found.items() if texts and path not in allowed} == {}
