"""The columns of a COPY statement, whatever the names."""

from __future__ import annotations

import pytest

from naap_ops.salvage.base import names_in


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        ("COPY public.t (id, name) FROM stdin", ["id", "name"]),
        ('COPY "a (b) FROM stdin"."c ""d" ("x, y", "z ""q""", w) FROM stdin', ["x, y", 'z "q"', "w"]),
        ('COPY t (")", "(") FROM stdin', [")", "("]),
        ("COPY public.t () FROM stdin", []),
        ("COPY public.t  FROM stdin", []),
    ],
)
def test_names(statement: str, columns: list[str]) -> None:
    assert names_in(statement) == columns
