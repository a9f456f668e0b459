"""In which order tables are written."""

from __future__ import annotations

from naap_ops.salvage.model import ForeignKey, Name
from naap_ops.salvage.order import groups, refers_to_itself


def names(*words: str) -> list[Name]:
    return [("s", word) for word in words]


def keys(*pairs: str) -> list[ForeignKey]:
    """``child>parent``."""
    ends = [pair.split(">") for pair in pairs]
    return [ForeignKey(f"{c}{p}", ("s", c), ("s", p), ("x",), ("x",), ("=",)) for c, p in ends]


def test_parents_come_first() -> None:
    found = groups(names("a", "b", "c", "d"), keys("a>b", "b>c", "d>c", "a>elsewhere"))
    assert found == [names("c"), names("b"), names("d"), names("a")]


def test_tables_of_a_circle_go_together() -> None:
    every = keys("a>b", "b>c", "c>b", "d>d", "b>e")
    found = groups(names("a", "b", "c", "d", "e"), every)
    assert found.index(names("e")) < found.index(names("b", "c")) < found.index(names("a"))
    together = [group for group in found if refers_to_itself(group, every)]
    assert together == [names("d"), names("b", "c")]
