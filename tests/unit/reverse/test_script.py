"""Reading a migration: byte for byte, named as the server names things, and refused in words that help."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naap_ops.errors import MigrationUnreadable
from naap_ops.reverse.script import Script, Statement, parse
from tests.samples import CORPUS

BESIDE = Path(__file__).resolve().parents[3].parent / "shared" / "corpus"
GAP = re.compile(rb"(?:\s|;|\xef\xbb\xbf|--[^\r\n]*|/\*(?:[^*/]|/\*.*?\*/|\*(?!/)|/(?!\*))*\*/)*", re.DOTALL)


def read(sql: str | bytes) -> Script:
    return parse(sql.encode() if isinstance(sql, str) else sql, name="migration.sql")


def only(sql: str) -> Statement:
    (statement,) = read(sql).statements
    return statement


def refused(sql: str | bytes) -> MigrationUnreadable:
    with pytest.raises(MigrationUnreadable) as caught:
        read(sql)
    assert caught.value.fields["name"] == "migration.sql"
    return caught.value


def exact(data: bytes) -> None:
    """What the slices do not hold is white space, comments and semicolons; together they are the file."""
    script = parse(data, name="x")
    assert script.text.encode() == data
    at = 0
    for statement in script.statements:
        assert data[statement.start : statement.end] == statement.sql.encode()
        assert GAP.fullmatch(data[at : statement.start])
        assert data[at : statement.start].decode().rstrip().endswith(statement.comment)
        assert statement.line == data.count(b"\n", 0, statement.start) + 1
        at = statement.end
    assert GAP.fullmatch(data[at:])


PIECES = (
    "SELECT 1",
    'ALTER TABLE "a b" ADD COLUMN "ü;--" text DEFAULT \'/* no */ ; -- no\'',
    "DO $x$ BEGIN PERFORM 1; -- ; \n END $x$",
    "CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "SELECT '\U0001f418'",
)
GAPS = ("\n", "\r\n", " -- é; 'x\n", "/* a /* ; */ b */", ";;\n", "\t-- CREATE TABLE x();\r\n")


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS), st.sampled_from(GAPS))), st.booleans(), st.booleans())
def test_slices_are_the_files_own_bytes(parts: list[tuple[str, str, str]], bom: bool, ended: bool) -> None:
    text = ";".join(before + piece + after for piece, before, after in parts) + (";\n" if ended else "")
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    exact(data)
    assert [each.sql for each in read(data).statements] == [piece for piece, _, _ in parts]


def test_every_migration_of_real_histories_is_read() -> None:
    root = Path(os.environ.get(CORPUS) or BESIDE)
    files = sorted(root.rglob("*.sql"))
    if not files:
        pytest.skip(f"no corpus of Prisma projects: {root} is missing, and {CORPUS} does not name its folder")
    for file in random.Random(4).sample(files, min(300, len(files))):
        exact(file.read_bytes())


def test_comments_belong_to_the_statement_they_stand_before() -> None:
    first, second = read("-- a\n/* b */\nSELECT 1; -- c\n\n-- d\nSELECT 2 -- e\n;\n-- f\n").statements
    assert (first.comment, first.sql, first.line) == ("-- a\n/* b */", "SELECT 1", 3)
    assert (second.comment, second.sql, second.line) == ("-- c\n\n-- d", "SELECT 2", 6)
    assert only("-- of nothing\n;\n-- a\nSELECT 1").comment == "-- a"


@pytest.mark.parametrize("text", ["", "\n\t", "-- only this\n/* and /* that */ */\n;;", "\ufeff"])
def test_a_file_without_statements_is_a_script_without_statements(text: str) -> None:
    script = read(text)
    assert (script.statements, script.segments) == ((), ())
    assert script.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("sql", "tag", "kinds"),
    [
        (
            "ALTER TABLE a ADD b int, DROP c, ALTER d SET DEFAULT 1, ALTER d DROP DEFAULT",
            "ALTER TABLE",
            "ADD COLUMN|DROP COLUMN|ALTER COLUMN SET DEFAULT|ALTER COLUMN DROP DEFAULT",
        ),
        (
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c, ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE",
            "ADD CONSTRAINT FOREIGN KEY|ENABLE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE a ALTER b SET DATA TYPE text, ALTER b DROP NOT NULL",
            "ALTER TABLE",
            "ALTER COLUMN TYPE|ALTER COLUMN DROP NOT NULL",
        ),
        ("ALTER TABLE a RENAME b TO c", "ALTER TABLE", "RENAME COLUMN"),
        ("ALTER TABLE a RENAME CONSTRAINT b TO c", "ALTER TABLE", "RENAME CONSTRAINT"),
        ("ALTER INDEX a RENAME TO b", "ALTER INDEX", "RENAME TO"),
        ("ALTER TYPE a ADD VALUE 'b'", "ALTER TYPE", "ADD VALUE"),
        ("CREATE TYPE a AS ENUM ('b')", "CREATE TYPE", "ENUM"),
        ("CREATE UNIQUE INDEX CONCURRENTLY a ON b (c)", "CREATE INDEX", "CONCURRENTLY"),
        ("DROP MATERIALIZED VIEW a", "DROP MATERIALIZED VIEW", ""),
        ("SELECT 1 AS a INTO b", "SELECT INTO", ""),
        ("CREATE TABLE a AS SELECT 1", "CREATE TABLE AS", ""),
        ("COMMENT ON COLUMN a.b IS 'c'", "COMMENT", "ON COLUMN"),
        ("TRUNCATE a", "TRUNCATE TABLE", ""),
        ("ROLLBACK TO a", "ROLLBACK", "TO"),
    ],
)
def test_tags_are_the_servers_and_kinds_begin_with_them(sql: str, tag: str, kinds: str) -> None:
    statement = only(sql)
    assert statement.tag == tag
    assert statement.kinds == tuple(f"{tag} {kind}".rstrip() for kind in kinds.split("|"))


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ('ALTER TABLE "A" ADD FOREIGN KEY (x) REFERENCES s."B"', [(None, "A"), ("s", "B")]),
        ("WITH x AS (SELECT 1 FROM y) INSERT INTO z SELECT * FROM x, s.q", [(None, "z"), ("s", "q"), (None, "y")]),
        ("INSERT INTO z VALUES ((SELECT max(i) FROM y))", [(None, "z"), (None, "y")]),
        ("DROP TABLE a.b, C", [("a", "b"), (None, "c")]),
        ("DROP TRIGGER t ON s.a", [("s", "a")]),
        ("COMMENT ON COLUMN a.b.c IS ''", [("a", "b")]),
        ("ALTER SEQUENCE s OWNED BY a.b", [(None, "a")]),
        ("ALTER INDEX i RENAME TO j", []),
        ("CREATE TABLE n AS SELECT * FROM o", [(None, "n"), (None, "o")]),
        ('DROP TABLE U&"d\\0061t"', [(None, "dat")]),
        (f'CREATE TABLE "{"é" * 40}" (i int)', [(None, "é" * 31)]),
        (f"DROP TABLE {'A' * 70}", [(None, "a" * 63)]),
    ],
)
def test_every_table_named_is_known_as_the_server_knows_it(sql: str, relations: list[tuple[str | None, str]]) -> None:
    assert list(only(sql).relations) == relations


def test_what_stands_and_falls_together() -> None:
    script = read("SELECT 1; BEGIN; SELECT 2; COMMIT; SELECT 3; DROP INDEX CONCURRENTLY i; BEGIN; SELECT 4; ROLLBACK")
    told = [([each.index for each in s.statements], s.transactional, s.rolled_back) for s in script.segments]
    assert told == [([1, 2, 3, 4], True, False), ([5], True, False), ([6], False, False), ([7, 8, 9], True, True)]


@pytest.mark.parametrize(
    ("sql", "transactional"),
    [
        ("VACUUM a", False),
        ("ANALYZE a", True),
        ("REINDEX (CONCURRENTLY) TABLE a", False),
        ("REINDEX (CONCURRENTLY false) TABLE a", True),
        ("REINDEX SCHEMA a", False),
        ("ALTER TABLE a DETACH PARTITION b CONCURRENTLY", False),
        ("ALTER TABLE a DETACH PARTITION b", True),
        ("ALTER SYSTEM SET work_mem = 1", False),
        ("CREATE DATABASE a", False),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY a", True),
        ("ALTER TYPE a ADD VALUE 'b'", True),
    ],
)
def test_what_cannot_run_in_a_transaction(sql: str, transactional: bool) -> None:
    assert only(sql).transactional is transactional


@pytest.mark.parametrize(
    ("sql", "opaque"),
    [("DO $$BEGIN END$$", True),
     ("CALL f()", True), ("SELECT fill()", True), ("SELECT a.now()", True), ("SELECT setval('s', 1)", True),
     ("SELECT set_config('search_path', '', false)", False), ("SELECT count(*) FROM a", False)],
)  # fmt: skip
def test_what_hides_what_it_does(sql: str, opaque: bool) -> None:
    assert only(sql).opaque is opaque


@pytest.mark.parametrize(
    ("data", "line", "words", "excerpt"),
    [
        ("SELECT 1;\nhello world;\nSELECT 2", 2, "syntax error", "hello world;"),
        ("SELECT 1;\n\nALTER TABLE é ADD", 3, "not complete", "ALTER TABLE é ADD"),
        ("SELECT 1;\nSELECT 'é', FORM t x;", 2, "syntax error", "SELECT 'é', FORM t x;"),
        ("SELECT 'abc\n", 1, "unterminated quoted string", "SELECT 'abc"),
        ("\ufeff\\connect other\nSELECT 1;", 1, "\\connect is a command of psql", "\\connect other"),
        ("SELECT 1;\n\\i x.sql\n", 2, "\\i is a command of psql", "\\i x.sql"),
        ("SELECT 1;\n  \\copy t from 'x'\n", 2, "\\copy is a command of psql", "\\copy t from 'x'"),
        ("COPY t FROM stdin;\n1\t2\n\\.\n", 2, "data of COPY FROM stdin", "1\t2"),
        ("CREATE TABLE `a` (`id` INT AUTO_INCREMENT);", 1, "looks like MySQL", "CREATE TABLE `a`"),
        ('CREATE TABLE "a" ("id" INTEGER PRIMARY KEY AUTOINCREMENT);', 1, "looks like SQLite", "AUTOINCREMENT"),
        ("PRAGMA foreign_keys=OFF;", 1, "looks like SQLite", "PRAGMA"),
        ("CREATE TABLE [dbo].[a] ([id] INT IDENTITY(1,1));", 1, "looks like SQL Server", "[dbo]"),
        (b"SELECT 1;\nSELECT '\xff';", 2, "not UTF-8: byte 0xff at offset 18", "SELECT '\\xff';"),
        (b"SELECT 1;\nSE\0LECT", 2, "a NUL byte at offset 12", "SE\\0LECT"),
        ("SELECT 1;".encode("utf-16"), 1, "UTF-16", ""),
        ("SELECT " + "1+" * 100_000 + "1", 1, "nested too deeply", "SELECT 1+"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(data: str | bytes, line: int, words: str, excerpt: str) -> None:
    error = refused(data)
    assert (error.fields["line"], error.exit_code) == (line, 18)
    assert words in error.fields["reason"]
    assert excerpt in error.fields["excerpt"]
    assert len(error.text) < 1000


def test_a_long_chain_of_operators_is_read() -> None:
    """Deeper than protobuf's usual limit, then deeper than an ordinary stack bears on some systems."""
    for length in (300, 10_000):
        assert only("SELECT " + " || ".join(["'a'"] * length)).tag == "SELECT"


def test_a_large_literal_is_no_chain_of_operators() -> None:
    assert only(f"INSERT INTO a VALUES ('{'+/a' * 100_000}')").relations == ((None, "a"),)


def test_megabytes_of_rows_are_read_and_their_trees_built_when_asked_for() -> None:
    row = "INSERT INTO \"t\" (a, b) VALUES (1, 'some text; -- and more')"
    script = read(f"{row};\n" * 20_000)
    assert len(script.statements) == 20_000
    last = script.statements[-1]
    assert (last.sql, last.line, last.kept) == (row, 20_000, None)
    assert last.node.relation.relname == "t"
    error = refused(f"{row};\n" * 20_000 + "SELECT FORM x y;")
    assert (error.fields["line"], error.fields["excerpt"]) == (20_001, "SELECT FORM x y;")
