"""The table of contents as pg_restore lists it: names may hold anything but a line break."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.backup.toc import Entry, parse, printable, say_gzip, use_list

LISTING = """;
; Archive created at 2026-11-21 03:15:00 UTC
;     dbname: app
;     TOC Entries: 12
;
; Selected TOC Entries:
;
2; 3079 16385 EXTENSION - "uuid-ossp"
3500; 0 0 COMMENT - EXTENSION "uuid-ossp"
216; 1259 16400 TABLE public users app
217; 1259 16405 TABLE public order "items"; now app owner
3456; 0 16400 TABLE DATA public users app
3457; 0 16405 TABLE DATA public order "items"; now app owner
3338; 0 0 TABLE ATTACH public part_1 app
218; 1259 16410 TABLE DATA users app
3458; 0 16410 TABLE DATA DATA users app
219; 1259 16420 TABLE ATTACH users app
3459; 0 0 SEQUENCE SET public users_id_seq app
220; 1259 16430 SEQUENCE public users_id_seq app
3460; 0 0 SEQUENCE OWNED BY public users_id_seq app
3320; 2606 16440 FK CONSTRAINT public users users_fk app
3321; 2606 16441 CONSTRAINT public users users_pkey app
3322; 1259 16450 INDEX ATTACH users_i app
3323; 0 0 INDEX ATTACH public part_1_i app
222; 1259 16460 MATERIALIZED VIEW public m app
3461; 0 16460 MATERIALIZED VIEW DATA public m app
"""


def chosen(description: str) -> list[int]:
    return [entry.dump_id for entry in parse(LISTING) if entry.describes(description)]


def test_entries_in_the_archives_order() -> None:
    entries = parse(LISTING)
    assert len(entries) == 19
    assert entries[3] == Entry(217, 1259, 16405, 'TABLE public order "items"; now app owner')


@pytest.mark.parametrize(
    ("description", "dump_ids"),
    [
        ("TABLE", [216, 217, 218, 219]),  # 218 and 219 are in schemas named DATA and ATTACH
        ("TABLE DATA", [3456, 3457, 3458]),
        ("TABLE ATTACH", [3338]),
        ("SEQUENCE", [220]),
        ("SEQUENCE SET", [3459]),
        ("SEQUENCE OWNED BY", [3460]),
        ("CONSTRAINT", [3321]),
        ("FK CONSTRAINT", [3320]),
        ("INDEX", [3322]),
        ("INDEX ATTACH", [3323]),
        ("MATERIALIZED VIEW", [222]),
        ("MATERIALIZED VIEW DATA", [3461]),
        ("EXTENSION", [2]),
        ("COMMENT", [3500]),
        ("TAB", []),
    ],
)
def test_the_kind_of_an_entry(description: str, dump_ids: list[int]) -> None:
    assert chosen(description) == dump_ids


def test_a_list_file_holds_the_lines_as_they_were() -> None:
    lines = [line for line in LISTING.splitlines() if not line.startswith(";")]
    assert use_list(parse(LISTING)).decode().splitlines() == lines
    assert use_list([]) == b""


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"))
NUMBERS = st.integers(0, 2**32)


@given(st.lists(st.builds(Entry, NUMBERS, NUMBERS, NUMBERS, TEXTS)))
def test_reading_and_writing_are_inverse_whatever_the_names(entries: list[Entry]) -> None:
    """Names may hold characters that Python, unlike pg_restore, takes for line breaks (U+0085, U+2028, form feed)."""
    assert parse(use_list(entries).decode()) == entries


@given(st.text())
def test_a_printed_name_is_one_line(name: str) -> None:
    assert len(printable(name)) == len(name)
    assert not {"\n", "\r"} & set(printable(name))
    assert printable("a\r\nb") == "a  b"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"PGDMP\1\x0e\0\4\x08\3\0\0\0\0\0rest", b"PGDMP\1\x0e\0\4\x08\3\0\1\0\0\0rest"),
        (b"PGDMP\1\x0f\0\4\x08\3\0rest", b"PGDMP\1\x0f\0\4\x08\3\1rest"),
        (b"PGDMP\1\x10\0\4\x08\3\0rest", b"PGDMP\1\x10\0\4\x08\3\1rest"),
    ],
    ids=["15", "16", "17 and 18"],
)
def test_a_header_that_says_gzip(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "toc.dat"
    path.write_bytes(before)
    say_gzip(path)
    assert path.read_bytes() == after


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PGDMP\1",
        b"PGDMP\1\x0f\0\4",
        b"PGDMP\1\x0f\0\4\x08\3\3rest",
        b"PGDMP\1\x0f\0\4\x08\1\0rest",
        b"PGDMP\1\x7f\0\4\x08\3\0rest",
        b"PGDMP\2\x0f\0\4\x08\3\0rest",
    ],
    ids=["empty", "cut", "cut later", "zstd", "custom format", "unknown version", "unknown major version"],
)
def test_another_header_is_left_alone(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "toc.dat"
    path.write_bytes(header)
    say_gzip(path)
    assert path.read_bytes() == header
