"""Values that meet CHECK constraints, domains' conditions and partition bounds, found by asking the server.

Every column of a condition gets candidates: values of its type, the constants of the condition itself and their neighbours,
NULL. The server evaluates the condition over their combinations; those that hold are what rows are made of.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from naap_ops.postgres.session import Connection
from naap_ops.reverse.seed.facts import Column, Facts, Table, Type
from naap_ops.reverse.seed.quoting import identifier, literal
from naap_ops.reverse.seed.values import value, widths

Row = dict[int, str | None]
"""Values in text form by column number."""

_COMBINATIONS = 4000
_ANSWERS = 60
_LONGEST = 300
_STRINGS = re.compile(r"'((?:[^']|'')*)'")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?\Z")
_DATE = re.compile(r"\d{4,}-\d\d-\d\d")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_WORDS = (
    "abc",
    "ABC",
    "a",
    "A",
    "1",
    "12",
    "a1",
    "a-b",
    "a_b",
    "Abc",
    "a@b.co",
    "https://a.co/b",
    "/a",
    "#a1b2c3",
    "en-US",
    "+14155550123",
    "2024-01-01",
    "00000000-5eed-4000-8000-000000000001",
    "1.2.3",
    "{}",
    "[]",
    "true",
    "",
)
_NUMERALS = ("1", "2", "3", "0", "10", "50", "100", "-1", "0.5", "1000", "1000000")
_DAYS = ("2024-01-01", "2030-01-01", "2000-01-01")
_GENERIC: Mapping[str, Sequence[str]] = {"N": _NUMERALS, "S": _WORDS, "B": ("t", "f"), "A": ("{}",), "D": _DAYS}
_INTEGERS = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_JSON = ("{}", "[]", '"a"', "1", '["a"]', '{"a": 1}', "null")


@dataclass(frozen=True)
class Problem:
    """Conditions over some columns of one table, and the rows (from 0) whose values they concern."""

    table: Table
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    conditions: tuple[str, ...]


def solved(connection: Connection, facts: Facts, rows: int) -> dict[int, dict[int, Row]]:
    """Values by table oid and row, for the columns that conditions speak of. What cannot be solved is left out."""
    problems = [problem for table in facts.tables.values() for problem in _problems(table, rows)]
    queries = [_query(problem, facts.types) for problem in problems]
    found: dict[int, dict[int, Row]] = {}
    for problem, answers in zip(problems, _answers(connection, queries), strict=True):
        for row, answer in zip(problem.rows, _varied(answers, len(problem.rows)), strict=False):
            found.setdefault(problem.table.oid, {}).setdefault(row, {}).update(zip(problem.columns, answer, strict=True))
    return found


# --- what is to be solved -----------------------------------------------------------------------------------------


def _problems(table: Table, rows: int) -> list[Problem]:
    conditions = [
        (set(check.columns), _condition(table, check.columns, check.expression, check.domain)) for check in table.checks
    ]
    if not table.bounds:
        return [Problem(table, tuple(range(rows)), *part) for part in _connected(conditions, table)]
    problems = []
    for row in range(rows):
        bound = table.bounds[row % len(table.bounds)]
        named = {number for number, column in table.columns.items() if _mentions(bound, column.name)}
        parts = _connected([*conditions, (named, bound)], table)
        problems += [Problem(table, (row,), *part) for part in parts]
    return problems


def _condition(table: Table, columns: Sequence[int], expression: str, domain: bool) -> str:
    if not domain:
        return expression
    name = identifier(table.columns[columns[0]].name)
    return f"SELECT ({expression}) FROM (SELECT {name} AS value) AS of_domain"


def _mentions(expression: str, name: str) -> bool:
    return identifier(name) in expression or re.search(rf"(?<![\w\"]){re.escape(name)}(?![\w\"])", expression) is not None


def _connected(conditions: Iterable[tuple[set[int], str]], table: Table) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Conditions that share a column belong together. Those on generated columns cannot be solved for."""
    parts: list[tuple[set[int], list[str]]] = []
    for columns, text in conditions:
        if not columns or any(table.columns[number].generated for number in columns):
            continue
        joined, texts = set(columns), [text]
        for part in [part for part in parts if part[0] & joined]:
            parts.remove(part)
            joined |= part[0]
            texts = part[1] + texts
        parts.append((joined, texts))
    return [(tuple(sorted(columns)), tuple(texts)) for columns, texts in parts]


# --- asking -------------------------------------------------------------------------------------------------------


def _query(problem: Problem, types: Mapping[int, Type]) -> str:
    most = max(2, math.floor(_COMBINATIONS ** (1 / len(problem.columns))))
    sources = []
    for number in problem.columns:
        column = problem.table.columns[number]
        rows = enumerate(candidates(column, problem.conditions, types)[:most])
        listed = ",".join(f"({position},{literal(text)})" for position, text in rows)
        cast = _cast(_basic(types, column.type))
        sources.append(
            f"(SELECT o AS naap_o{number}, v AS naap_v{number}, v::{cast} AS {identifier(column.name)}"
            f" FROM (VALUES {listed}) AS listed(o, v)) AS source{number}"
        )
    held = " AND ".join(f"({text}) IS NOT FALSE" for text in problem.conditions)
    picked = ", ".join(f"naap_v{number}::text" for number in problem.columns)
    nearest = " + ".join(f"naap_o{number}" for number in problem.columns)
    inner = f"SELECT ARRAY[{picked}] AS one FROM {', '.join(sources)} WHERE {held} ORDER BY {nearest} LIMIT {_ANSWERS}"
    return f"(SELECT json_agg(one) FROM ({inner}) AS answers)"


def _cast(known: Type | None) -> str:
    # These two names would cut the value to one character or bit.
    if known is None:
        return "text"
    return {"character": "bpchar", "bit": '"bit"'}.get(known.sql, known.sql)


def _answers(connection: Connection, queries: Sequence[str]) -> list[list[list[str | None]]]:
    """All in one round trip; one by one when the server could not evaluate one of them."""
    if not queries:
        return []
    try:
        with connection.transaction():
            row = connection.execute(f"SELECT {', '.join(queries)}".encode(), prepare=False).fetchone()
    except psycopg.Error:
        if connection.broken:
            raise
        return [[]] if len(queries) == 1 else [_answers(connection, [query])[0] for query in queries]
    assert row is not None
    return [answers or [] for answers in row]


def _varied(answers: list[list[str | None]], wanted: int) -> list[list[str | None]]:
    """``wanted`` answers, each with as many values as possible that are not in those before."""
    chosen: list[list[str | None]] = []
    while answers and len(chosen) < wanted:
        seen = [{answer[position] for answer in chosen} for position in range(len(answers[0]))]
        best = max(answers, key=lambda answer: sum(part not in old for part, old in zip(answer, seen, strict=True)))
        chosen.append(best)
    return chosen


# --- candidates ---------------------------------------------------------------------------------------------------


def candidates(column: Column, conditions: Sequence[str], types: Mapping[int, Type]) -> list[str | None]:
    """Values for one column that its conditions may accept, the likeliest first; NULL among them if it may be."""
    own = [value(types, column.type, column.modifier, column.number * 10 + row + 1, row) for row in range(3)]
    text = " ".join(conditions)
    width = widths(types, column.type, column.modifier)
    known = _basic(types, column.type)
    fits = _FITS.get(known.category if known else "", _is_alike)
    offered = itertools.chain(own[:1], _constants(text, known), own[1:], _generic(known))
    found: list[str | None] = list(
        dict.fromkeys(
            each for each in offered if each is not None and fits(each, known) and (width is None or len(each) <= width)
        )
    )
    if not column.not_null:
        found.insert(min(2, len(found)), None)
    return found or [None]


def _basic(types: Mapping[int, Type], oid: int) -> Type | None:
    known = types.get(oid)
    while known is not None and known.kind == "d":
        known = types.get(known.base)
    return known


def _constants(text: str, known: Type | None) -> list[str]:
    strings = [each.replace("''", "'") for each in _STRINGS.findall(text)]
    found = []
    for each in strings:
        if each.startswith("{") and each.endswith("}"):
            found += [part.strip('"') for part in each[1:-1].split(",")]
        if "%" in each:
            found.append(each.replace("%", "a"))
        found.append(each)
    if known is not None and known.category == "S":
        lengths = [int(number) for number in _NUMBERS.findall(text) if "." not in number and 0 < int(number) <= _LONGEST]
        return found + [letter * length for length in lengths for letter in "aA1bB2cC3"]
    numbers = _NUMBERS.findall(_STRINGS.sub("", text)) + [each for each in strings if _NUMBER.match(each)]
    for number in numbers:
        found += [number, f"-{number}" if not number.startswith("-") else number]
        if "." not in number:
            found += [str(int(number) + 1), str(int(number) - 1), f"{number}0"]
    return found


def _generic(known: Type | None) -> Sequence[str | None]:
    if known is None:
        return ()
    if known.kind == "e":
        return [str(label) for label in known.parts]
    if known.name in {"json", "jsonb"}:
        return _JSON
    return _GENERIC.get(known.category, ())


def _is_number(text: str, known: Type | None) -> bool:
    if known is not None and known.name in _INTEGERS:
        return text.removeprefix("-").isdecimal() and abs(int(text)) < _INTEGERS[known.name]
    return _NUMBER.match(text) is not None


def _is_alike(text: str, known: Type | None) -> bool:
    """Types without a rule: what was made for them, and what is plainly of their kind."""
    if known is None:
        return False
    if known.name in {"json", "jsonb"}:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True
    if known.name == "uuid":
        return _UUID.match(text) is not None
    return known.kind != "b" or not _NUMBER.match(text)


_FITS: dict[str, Callable[[str, Type | None], bool]] = {
    "N": _is_number,
    "S": lambda _text, _known: True,
    "E": lambda text, known: known is not None and text in known.parts,
    "B": lambda text, _known: text in {"t", "f"},
    "D": lambda text, known: known is not None and ((known.name.startswith("time") and ":" in text) or bool(_DATE.match(text))),
    "A": lambda text, _known: text.startswith("{"),
}
