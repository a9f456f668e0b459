"""Whatever the rows, the names and the places where reads happen to end: the counters give the exact rows, or say it is cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from naap_ops.backup.copytext import DATA_FILE_END, DataFileCounter, NotCopyText, ScriptCounter
from naap_ops.backup.toc import printable

# --- rows as COPY writes them -------------------------------------------------------------------------------------

_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
# Values that look like what the counters look for, once they are written down.
_NASTY = [
    "",
    "\\.",
    "\\",
    ".",
    "\n",
    "\n\\.\n",
    "\\.\n\n\n",
    "COPY public.t (a) FROM stdin;",
    "-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: o",
    "-- PostgreSQL database dump complete",
]
VALUES = st.one_of(
    st.none(), st.sampled_from(_NASTY), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)


def copy_line(row: list[str | None]) -> bytes:
    """COPY's text format (PostgreSQL documentation, COPY, "Text Format")."""
    fields = ("\\N" if value is None else "".join(_ESCAPES.get(c, c) for c in value) for value in row)
    return "\t".join(fields).encode() + b"\n"


ROWS = st.integers(0, 3).flatmap(lambda columns: st.lists(st.lists(VALUES, min_size=columns, max_size=columns), max_size=8))
CUTS = st.lists(st.integers(0, 1 << 16), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at the places of ``cuts``."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


# --- data files ---------------------------------------------------------------------------------------------------


def rows_of_data_file(parts: list[bytes]) -> int:
    counter = DataFileCounter()
    for part in parts:
        counter.feed(part)
    return counter.rows()


@given(ROWS, CUTS)
def test_a_data_file_gives_its_rows(rows: list[list[str | None]], cuts: list[int]) -> None:
    data = b"".join(map(copy_line, rows)) + DATA_FILE_END
    assert rows_of_data_file(pieces(data, cuts)) == len(rows)
    assert rows_of_data_file([data[i : i + 1] for i in range(len(data))]) == len(rows)


@given(ROWS, st.integers(0, 1 << 16), CUTS)
@example([["\\."], [""], [""], ["more"]], 6, [])
def test_a_data_file_cut_anywhere_is_not_taken_for_whole(rows: list[list[str | None]], cut: int, cuts: list[int]) -> None:
    data = b"".join(map(copy_line, rows)) + DATA_FILE_END
    with pytest.raises(NotCopyText):
        rows_of_data_file(pieces(data[: cut % len(data)], cuts))


@given(ROWS, st.binary(min_size=1))
def test_a_data_file_that_goes_on_is_not_taken_for_whole(rows: list[list[str | None]], more: bytes) -> None:
    data = b"".join(map(copy_line, rows)) + DATA_FILE_END + more
    if not data.endswith(b"\n" + DATA_FILE_END) and data != DATA_FILE_END:
        with pytest.raises(NotCopyText):
            rows_of_data_file([data])


# --- scripts ------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    schema: str
    name: str
    columns: list[str]
    rows: list[list[str | None]]


@dataclass
class Script:
    """A plain dump: what comes before each table, the tables, what comes after."""

    text: bytes
    tables: list[Table] = field(default_factory=list)

    @property
    def expected(self) -> list[tuple[str, str, int]]:
        return [(printable(t.schema), printable(t.name), len(t.rows)) for t in self.tables]


_NAME_PARTS = [
    "\nCOPY x FROM stdin;\n",
    "a",
    "T",
    " ",
    '"',
    ";",
    "'",
    "\n",
    "\r",
    "%",
    "ü漢",
    ".",
    "FROM stdin;",
    "\\.",
    "; Type: ",
    "; Schema: ",
    "-- ",
    "(",
]
NAMES = st.lists(st.sampled_from(_NAME_PARTS), min_size=1, max_size=4).map("".join)
TABLES = st.builds(
    lambda schema, name, columns, rows: Table(schema, name, columns, [(row * len(columns))[: len(columns)] for row in rows]),
    NAMES,
    NAMES,
    st.lists(NAMES, max_size=3),
    st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=6),
)

# SQL that stands around the data; none of it holds rows.
_PROSE = [
    "",
    "SET statement_timeout = 0;\n",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$\nCOPY x FROM stdin;\n1\n\\.\n$$;\n",
    'CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$\nCOPY "x FROM stdin;\n$$;\n',
    "COMMENT ON TABLE x IS 'first\n-- PostgreSQL database dump complete\n';\n",
    "CREATE VIEW v AS SELECT 'COPY x FROM stdin;'::text;\n",
    "--\n-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -\n--\n\nSELECT pg_catalog.lo_close(0);\n\n",
    "--\n-- Name: x_id_seq; Type: SEQUENCE SET; Schema: public; Owner: o\n--\n\nSELECT pg_catalog.setval('x', 1, true);\n\n",
    "x" * 5000 + "\n",
]
PROSE = st.lists(st.sampled_from(_PROSE), max_size=3).map("".join)
# Between a table's comment and its COPY: --load-via-partition-root, --disable-triggers, --use-set-session-authorization.
BETWEEN = st.sampled_from(
    ["", "-- load via partition root s.t\n", "ALTER TABLE s.t DISABLE TRIGGER ALL;\n\n", "SET x = 'y';\n\n"]
)
HEAD = "--\n-- PostgreSQL database dump\n--\n\n\\restrict Abc123\n\n"
TRAILER = "-- PostgreSQL database dump complete"
TAIL = f"--\n{TRAILER}\n--\n\n"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if not name.isidentifier() or name.lower() != name else name


def block(table: Table, between: str) -> bytes:
    """As pg_dump writes a table's rows (pg_backup_archiver.c, _printTocEntry; pg_dump.c, dumpTableData_copy)."""
    columns = f"({', '.join(map(quoted, table.columns))})" if table.columns else ""
    comment = f"Data for Name: {printable(table.name)}; Type: TABLE DATA; Schema: {printable(table.schema)}; Owner: o"
    head = f"--\n-- {comment}\n--\n\n{between}COPY {quoted(table.schema)}.{quoted(table.name)} {columns} FROM stdin;\n"
    return head.encode() + b"".join(map(copy_line, table.rows)) + b"\\.\n\n\n"


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    tables = draw(st.lists(TABLES, max_size=4))
    parts = [HEAD.encode()]
    for table in tables:
        parts += [draw(PROSE).encode(), block(table, draw(BETWEEN))]
    parts += [draw(PROSE).encode(), TAIL.encode(), draw(st.sampled_from([b"", b"\\unrestrict Abc123\n\n"]))]
    return Script(b"".join(parts), tables)


def read(parts: list[bytes]) -> tuple[list[tuple[str, str, int]], bool]:
    found: list[tuple[str, str, int]] = []
    counter = ScriptCounter(lambda schema, name, rows: found.append((schema, name, rows)))
    for part in parts:
        counter.feed(part)
    counter.finish()
    return found, counter.complete


def _comparable(names: list[tuple[str, str, int]]) -> list[tuple[str, int]]:
    """Where the parts of a comment end is ambiguous for names that look like them: compare schema and name joined."""
    return [(f"{name}; Type: TABLE DATA; Schema: {schema}", rows) for schema, name, rows in names]


@given(scripts(), CUTS)
def test_a_script_gives_the_rows_of_every_table(script: Script, cuts: list[int]) -> None:
    for parts in (pieces(script.text, cuts), pieces(script.text, list(range(0, len(script.text), 7)))):
        found, complete = read(parts)
        assert _comparable(found) == _comparable(script.expected)
        assert complete


@given(scripts(), st.integers(0, 1 << 16), CUTS)
def test_a_script_cut_anywhere_is_not_taken_for_whole(script: Script, cut: int, cuts: list[int]) -> None:
    """Up to the end of the trailer's words; what is cut behind them is empty lines."""
    end = script.text.rindex(TRAILER.encode()) + len(TRAILER)
    try:
        _, complete = read(pieces(script.text[: cut % end], cuts))
    except NotCopyText:
        return
    assert not complete
