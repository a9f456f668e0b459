"""Types of which the one before holds less, without refusing the value."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from naap_ops.reverse.narrowing import cut


def column(type: str, modifier: int = -1, key: int = 1, kind: str = "b") -> SimpleNamespace:
    return SimpleNamespace(type=type, modifier=modifier, type_key=key, type_kind=kind)


@pytest.mark.parametrize(
    ("was", "now", "way"),
    [
        (column("date"), column("timestamp(3) without time zone", 3), "::date::timestamp(3) without time zone"),
        (column("timestamp(0) without time zone", 0), column("timestamp(3) without time zone", 3),
         "::timestamp(0) without time zone::timestamp(3) without time zone"),
        (column("timestamp(3) without time zone", 3), column("timestamp without time zone"),
         "::timestamp(3) without time zone::timestamp without time zone"),
        (column("real"), column("double precision"), "::real::double precision"),
        (column("integer"), column("text"), "::integer::text"),
        (column("boolean"), column("integer"), "::boolean::integer"),
        (column("character varying(3)[]", 7), column("text[]"), "::character varying(3)[]::text[]"),
        (column("numeric(6,2)[]", 1), column("numeric(12,4)[]", 2), "::numeric(6,2)[]::numeric(12,4)[]"),
        (column("day", key=16500, kind="d"), column("timestamp without time zone"), "::day::timestamp without time zone"),
        (column("interval(0)", 0), column("interval(3)", 3), "::interval(0)::interval(3)"),
    ],
)  # fmt: skip
def test_it_is_told_by_the_way_there_and_back(was: SimpleNamespace, now: SimpleNamespace, way: str) -> None:
    assert cut(was, now) == way


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (column("timestamp(3) without time zone", 3), column("timestamp(0) without time zone", 0)),
        (column("timestamp without time zone"), column("timestamp(3) without time zone", 3)),
        (column("integer"), column("bigint")),
        (column("numeric(6,2)", 1), column("numeric(10,4)", 2)),
        (column("integer"), column("real")),
        (column("character varying(3)", 7), column("text")),
        (column("mood", key=16500), column("text")),
        (column("date"), column("my_text", key=16500)),
    ],
)
def test_what_is_exact_or_refused_or_of_users_is_not_looked_at(was: SimpleNamespace, now: SimpleNamespace) -> None:
    assert cut(was, now) == ""
