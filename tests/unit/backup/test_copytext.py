"""What pg_dump writes, and what only looks like it. What holds for any rows is in tests/property/test_copytext.py."""

from __future__ import annotations

import tracemalloc

import pytest

from naap_ops.backup.copytext import DataFileCounter, NotCopyText, ScriptCounter, codec

Found = list[tuple[str, str, int]]
TRAILER = "--\n-- PostgreSQL database dump complete\n--\n\n"


def read(script: str | bytes) -> tuple[Found, ScriptCounter]:
    found: Found = []
    counter = ScriptCounter(lambda schema, name, rows: found.append((schema, name, rows)))
    counter.feed(script if isinstance(script, bytes) else script.encode())
    counter.finish()
    return found, counter


def block(name: str, rows: str, schema: str = "public") -> str:
    comment = f"--\n-- Data for Name: {name}; Type: TABLE DATA; Schema: {schema}; Owner: app\n--\n\n"
    return f"{comment}COPY {schema}.{name} (a) FROM stdin;\n{rows}\\.\n\n\n"


# --- rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "rows"), [(b"\\.\n\n\n", 0), (b"1\n\\.\n\n\n", 1), (b"\n\n\\.\n\n\n", 2)])
def test_rows_of_a_data_file(data: bytes, rows: int) -> None:
    counter = DataFileCounter()
    counter.feed(data)
    assert counter.rows() == rows


@pytest.mark.parametrize("data", [b"", b"1\n", b"1\n\\.", b"1\n\\.\n", b"x\\.\n\n\n", b"\\.\n\n\nmore", b"\\.\n\n\n\n"])
def test_no_data_file(data: bytes) -> None:
    counter = DataFileCounter()
    counter.feed(data)
    with pytest.raises(NotCopyText, match="before its terminator") as caught:
        counter.rows()
    assert caught.value.exit_code == 13


def test_a_copy_line_in_a_function_is_no_table_and_hides_none() -> None:
    body = "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$\nCOPY x FROM stdin;\n1\n2\n$$;\n\n"
    found, counter = read(body + block("a", "1\n2\n3\n") + body + block("b", "") + body + TRAILER)
    assert found == [("public", "a", 3), ("public", "b", 0)]
    assert counter.complete


def test_rows_that_look_like_sql_are_rows() -> None:
    comments = "-- Data for Name: y; Type: TABLE DATA; Schema: s; Owner: o\n-- PostgreSQL database dump complete\n"
    rows = f"COPY x FROM stdin;\n{comments}\\\\.\n"
    assert read(block("a", rows) + TRAILER)[0] == [("public", "a", 4)]


def test_the_partition_is_counted_not_the_root_its_rows_are_loaded_into() -> None:
    comment = "-- Data for Name: p1; Type: TABLE DATA; Schema: public; Owner: o\n--\n\n-- load via partition root public.p\n"
    found, _ = read(f"--\n{comment}COPY public.p (a) FROM stdin;\n1\n\\.\n\n\n{TRAILER}")
    assert found == [("public", "p1", 1)]


def test_a_comment_without_copy_is_forgotten_for_the_next_one() -> None:
    inserts = "--\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: o\n--\n\nINSERT INTO a VALUES (1);\n\n"
    assert read(inserts + block("b", "1\n") + TRAILER)[0] == [("public", "b", 1)]


def test_without_pg_dumps_comments_nothing_is_counted() -> None:
    assert read("COPY public.a (a) FROM stdin;\n1\n\\.\n")[0] == []


def test_a_script_of_inserts_takes_no_memory() -> None:
    """Behind a table's comment the counter waits for COPY, but not for ever."""
    counter = ScriptCounter(lambda *_: None)
    counter.feed(b"\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: o\n--\n\n")
    lines = b"INSERT INTO a VALUES (1);\n" * 40_000
    tracemalloc.start()
    for _ in range(20):
        counter.feed(lines)
    counter.feed(b"x" * len(lines) * 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 22 * len(lines), "little more than the last piece itself"
    counter.feed(f"\n{block('b', chr(10))}{TRAILER}".encode())
    counter.finish()
    assert counter.complete


def test_names_are_read_in_the_scripts_encoding() -> None:
    script = f"SET client_encoding = 'LATIN1';\n\n{block('größe', chr(10))}{TRAILER}".encode("latin-1")
    assert read(script)[0] == [("public", "größe", 1)]


@pytest.mark.parametrize(
    ("name", "python"),
    [("UTF8", "utf-8"), ("LATIN1", "iso8859-1"), ("WIN1252", "cp1252"), ("EUC_JP", "euc_jp"), ("MULE", "utf-8")],
)
def test_pythons_name_of_an_encoding(name: str, python: str) -> None:
    assert codec(name) == python


def test_the_tables_a_script_makes() -> None:
    definition = '--\n-- Name: a b; Type: TABLE; Schema: s; Owner: o; Tablespace: t\n--\n\nCREATE TABLE s."a b" ();\n\n'
    view = "--\n-- Name: v; Type: VIEW; Schema: s; Owner: o\n--\n\n"
    _, counter = read(definition + view + block("c", "-- Name: x; Type: TABLE; Schema: y; Owner: z\n") + TRAILER)
    assert counter.defined == {("s", "a b")}


# --- the trailer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        TRAILER,
        TRAILER.rstrip("\n"),
        TRAILER + "\\unrestrict Ab0\n\n",
        "-- Completed on 2026-11-21 03:15:00 UTC\n\n" + TRAILER,
        TRAILER + "-- copied by the night shift\n",
    ],
)
def test_a_whole_script(end: str) -> None:
    assert read("--\n-- PostgreSQL database dump\n--\n\n" + block("a", "1\n") + end)[1].complete


@pytest.mark.parametrize(
    "end",
    [
        "",
        "--\n-- PostgreSQL database dump",
        "--\n-- PostgreSQL database dump complet",
        "-- PostgreSQL database dump complete\n",
        "x\n-- PostgreSQL database dump complete\n--\n\n",
        TRAILER + "SELECT 1;\n",
        f"CREATE FUNCTION f() AS $$\n{TRAILER}$$;\n",
        TRAILER + "--\n-- PostgreSQL database dump\n--\n\n",
        "--\n-- PostgreSQL database cluster dump complete\n--\n\n",
    ],
)
def test_no_whole_script(end: str) -> None:
    assert not read("--\n-- PostgreSQL database dump\n--\n\n" + block("a", "1\n") + end)[1].complete


def test_the_dump_of_a_cluster_is_not_whole_after_its_first_database() -> None:
    head = "--\n-- PostgreSQL database cluster dump\n--\n\n"
    cluster_trailer = TRAILER.replace("database dump", "database cluster dump")
    first = f"{head}\\connect app\n\n--\n-- PostgreSQL database dump\n--\n\n{TRAILER}"
    assert not read(first)[1].complete
    assert read(first + cluster_trailer)[1].complete


def test_a_script_that_ends_inside_rows_names_the_table() -> None:
    with pytest.raises(NotCopyText, match="inside the rows of accounts"):
        read(block("accounts", "1\n2\n").removesuffix("\\.\n\n\n"))
