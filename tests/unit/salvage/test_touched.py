"""Which tables a script changes rows of."""

from __future__ import annotations

import pytest

from naap_ops.salvage.model import ForeignKey
from naap_ops.salvage.touched import rows_changed_by

TABLES = {("public", name): None for name in ("a", "b", "c", "B b")} | {("s", "a"): None}
KEYS = [
    (ForeignKey("k", ("public", "b"), ("public", "a"), ("x",), ("x",), ("=",)), "c"),
    (ForeignKey("k", ("public", "c"), ("public", "b"), ("x",), ("x",), ("=",)), "n"),
    (ForeignKey("k", ("public", "c"), ("public", "a"), ("x",), ("x",), ("=",)), "a"),
]


@pytest.mark.parametrize(
    ("script", "touched"),
    [
        ("create table x (i int references a); create index on b (i)", ""),
        ("select * from a; insert into b select * from c", "b"),
        ("update s.a set x = 1", "s.a"),
        ("with gone as (delete from b returning *) insert into x select * from gone", "b c x"),
        ("delete from a", "a b c"),
        ("truncate b", "b c"),
        ("truncate a cascade", "a b c"),
        ("merge into c using a on true when matched then delete", "c"),
        ("do $$ begin update \"B b\" set x = 1; end $$; select f('a.b')", "B b a b s.a"),
    ],
)
def test_touched(script: str, touched: str) -> None:
    found = set(rows_changed_by(script.encode(), "m", "public", TABLES, KEYS))
    assert {name if schema == "public" else f"{schema}.{name}" for schema, name in found} == _split(touched)


def _split(text: str) -> set[str]:
    return {"B b", *text.replace("B b", "").split()} if "B b" in text else set(text.split())
