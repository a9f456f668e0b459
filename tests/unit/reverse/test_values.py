"""What a value is: in the type's text form, within its limits, different from row to row."""

from __future__ import annotations

import json

import pytest

from naap_ops.reverse.seed.facts import Type
from naap_ops.reverse.seed.values import Text, value, widths

NAMES = ("bool", "char", "varchar", "bpchar", "numeric", "bit", "text", "json", "int8")
OID = {name: number for number, name in enumerate(NAMES, 1)}
TYPES = {OID[name]: Type(OID[name], name) for name in NAMES} | {
    50: Type(50, "mood", kind="e", parts=("low", 'so "so"', "high, er")),
    51: Type(51, "_mood", category="A", element=50),
    52: Type(52, "pair", kind="c", parts=((OID["text"], -1), (50, -1), (99, -1))),
    53: Type(53, "short", kind="d", base=OID["varchar"], modifier=4 + 3),
    54: Type(54, "span", kind="r", parts=(OID["int8"],)),
    55: Type(55, "spans", kind="m", parts=(54,)),
}


def rows(oid: int, modifier: int = -1, count: int = 3) -> list[str | None]:
    return [value(TYPES, oid, modifier, 10 + row + 1, row) for row in range(count)]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("name", ["varchar", "bpchar"])
def test_strings_fit(name: str, width: int) -> None:
    found = rows(OID[name], 4 + width, 5)
    assert all(text is not None and 0 < len(text) <= width and text == text.rstrip() for text in found)
    assert len(set(found)) == 5


@pytest.mark.parametrize(("precision", "scale"), [(1, 0), (5, 2), (3, 3), (30, 10), (2, 1)])
def test_numerics_fit(precision: int, scale: int) -> None:
    found = rows(OID["numeric"], (precision << 16 | scale) + 4)
    for text in found:
        assert text is not None
        whole, _, fraction = text.partition(".")
        assert len(fraction) == scale
        assert len(whole.lstrip("-0")) <= precision - scale
    assert len(set(found)) == 3


def test_what_breaks_careless_copies_is_there() -> None:
    texts = "".join(filter(None, rows(OID["text"])))
    assert set("'\"\\\n\t%$;") <= set(texts)
    assert not texts.isascii()
    assert "".join(filter(None, (value(TYPES, OID["text"], -1, 1, row, text=Text.ASCII) for row in range(3)))).isascii()
    assert any(int(text or 0) > 2**53 for text in rows(OID["int8"]))
    assert [json.loads(text or "")["n"] for text in rows(OID["json"])] == [11, 12, 13]


def test_composed_types() -> None:
    assert rows(50, count=4) == ["low", 'so "so"', "high, er", "low"]
    assert rows(51) == ['{"low","so \\"so\\""}', '{"so \\"so\\""}', "{}"]
    assert value(TYPES, 52, -1, 7, 1) == '("7 a\n\tb $1 {}","so \\"so\\"",)'
    assert rows(54)[0] == '["11","11"]'
    assert rows(55)[0] == '{["11","11"]}'


def test_domains_are_their_base_with_their_limit() -> None:
    assert {len(text or "") for text in rows(53)} <= {1, 2, 3}
    assert widths(TYPES, 53, -1) == 3
    assert widths(TYPES, OID["text"], -1) is None


def test_unknown_types_have_no_value() -> None:
    assert value(TYPES | {98: Type(98, "thing")}, 98, -1, 1, 0) is None
    assert value(TYPES, 97, -1, 1, 0) is None
