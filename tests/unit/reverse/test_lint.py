"""Dangers by name, squawk's and our own, and what is allowed by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from naap_ops import process
from naap_ops.errors import CommandFailed, ToolMissing
from naap_ops.reverse import lint
from naap_ops.reverse.lint import RULES, WORDS, UnknownName, check, dangers, find_squawk
from naap_ops.reverse.script import Script, parse


def script(sql: str) -> Script:
    return parse(sql.encode(), name="migration.sql")


def words(sql: str) -> set[str]:
    return {each.word for each in dangers(script(sql))}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DROP TABLE a", "deletes_data locks_table loses_privileges"),
        ("ALTER TABLE a DROP COLUMN b", "deletes_data locks_table column_order"),
        ("TRUNCATE a", "deletes_data locks_table"),
        ("DELETE FROM a", "deletes_data"),
        ("UPDATE a SET b = 1", "deletes_data"),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", "deletes_data"),
        ("INSERT INTO a VALUES (1)", ""),
        ("ALTER TABLE a ADD b int", "locks_table"),
        ("ALTER TABLE a ADD b int NOT NULL", "locks_table may_fail_on_data"),
        ("ALTER TABLE a ADD b int NOT NULL DEFAULT 1", "locks_table"),
        ("ALTER TABLE a ADD b timestamp DEFAULT CURRENT_TIMESTAMP", "locks_table"),
        ("ALTER TABLE a ADD b uuid DEFAULT gen_random_uuid()", "locks_table rewrites_table"),
        ("ALTER TABLE a ADD b serial NOT NULL", "locks_table rewrites_table"),
        ("ALTER TABLE a ADD b int UNIQUE", "locks_table index_build"),
        ("ALTER TABLE a ALTER b TYPE text", "locks_table rewrites_table may_fail_on_data"),
        ("ALTER TABLE a ALTER b SET NOT NULL", "locks_table may_fail_on_data"),
        ("ALTER TABLE a ADD PRIMARY KEY (b)", "locks_table may_fail_on_data index_build"),
        ("ALTER TABLE a ADD CONSTRAINT c PRIMARY KEY USING INDEX d", "locks_table"),
        ("ALTER TABLE a ADD CHECK (b > 0) NOT VALID", "locks_table"),
        ("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c", "locks_writes may_fail_on_data"),
        ("ALTER TABLE a VALIDATE CONSTRAINT b", "may_fail_on_data"),
        ("ALTER TABLE a RENAME TO b", "locks_table"),
        ("CREATE INDEX ON a (b)", "locks_writes index_build"),
        ("CREATE UNIQUE INDEX CONCURRENTLY c ON a (b)", "index_build may_fail_on_data not_transactional"),
        ("DROP INDEX a", "locks_table"),
        ("DROP INDEX CONCURRENTLY a", "not_transactional"),
        ("CREATE TRIGGER t BEFORE INSERT ON a EXECUTE FUNCTION f()", "locks_writes"),
        ("ALTER TYPE a ADD VALUE 'b'", "enum_residue"),
        ("DROP FUNCTION a", "loses_privileges"),
        ("REVOKE SELECT ON a FROM b", "loses_privileges"),
        ("VACUUM FULL a", "locks_table rewrites_table not_transactional"),
        ("LOCK TABLE a IN SHARE MODE", "locks_writes"),
        ("DO $$BEGIN END$$", "opaque"),
        ("ALTER DOMAIN a SET NOT NULL", "may_fail_on_data"),
        ("CREATE TABLE n (i int REFERENCES a)", "locks_writes"),
    ],
)
def test_each_danger_has_its_word(sql: str, expected: str) -> None:
    assert words(sql) == set(expected.split())


def test_every_word_is_one_that_can_be_allowed() -> None:
    assert set(WORDS) == {
        "deletes_data", "locks_table", "locks_writes", "rewrites_table", "may_fail_on_data", "index_build", "not_transactional",
        "loses_privileges", "column_order", "enum_residue", "opaque",
    }  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        'CREATE TABLE "N" (i int); CREATE UNIQUE INDEX ON "N" (i); ALTER TABLE "N" ADD j int NOT NULL',
        "CREATE TABLE n (i int); CREATE TABLE m (i int); ALTER TABLE m ADD FOREIGN KEY (i) REFERENCES n",
        "CREATE TABLE n (i int); ALTER TABLE n RENAME TO o; CREATE INDEX ON o (i)",
        "CREATE TABLE n AS SELECT * FROM a; CREATE INDEX ON n (i)",
    ],
)
def test_a_table_of_the_scripts_own_is_in_nobodys_way(sql: str) -> None:
    assert words(sql) == set()


def test_own_tables_do_not_hide_dangers_to_others() -> None:
    assert "locks_writes" in words("CREATE TABLE n (i int); ALTER TABLE n ADD FOREIGN KEY (i) REFERENCES a")
    assert "index_build" in words("CREATE TABLE n AS SELECT * FROM a; CREATE INDEX ON a (i)")
    assert "index_build" in words("CREATE TABLE IF NOT EXISTS n (i int); CREATE INDEX ON n (i)")


def test_filling_a_column_just_added_overwrites_nothing() -> None:
    assert "deletes_data" not in words("ALTER TABLE a ADD b int; UPDATE a SET b = 1")
    assert "deletes_data" in words("ALTER TABLE a ADD b int; UPDATE a SET b = 1, c = 2")


def test_squawk_finds_and_names_the_place() -> None:
    report = check(script('\ufeffALTER TABLE "é" DROP COLUMN b;\r\nDROP TABLE c;'), pg_version="16")
    (found,) = [each for each in report.findings if each.rule == "ban-drop-column"]
    assert (found.file, found.line, found.column, found.level) == ("migration.sql", 1, 17, "Warning")
    assert [each.line for each in report.findings if each.rule == "ban-drop-table"] == [2]
    assert not report.clean


def test_what_is_allowed_by_name_is_counted_and_not_reported() -> None:
    sql = script("ALTER TABLE a DROP COLUMN b; ALTER TABLE a DROP COLUMN c;")
    told = check(sql, pg_version="16.4").as_dict()
    present = {each["rule"] for each in told["findings"]} | {each["danger"] for each in told["dangers"]}
    report = check(sql, pg_version="16.4", allow=present | {"opaque"})
    assert report.clean
    assert report.allowed.keys() == present
    assert (report.allowed["column_order"], report.allowed["ban-drop-column"]) == (2, 2)
    assert {each.rule for each in check(sql, pg_version="16.4", allow={"column_order"}).findings} <= present


def test_a_name_nobody_has_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="drops_data") as caught:
        check(script("SELECT 1"), pg_version="16", allow=["drops_data", "opaque"])
    assert "deletes_data" in caught.value.advice
    assert "ban-drop-column" in caught.value.advice


def test_squawk_knows_every_rule_we_list() -> None:
    assert process.run([find_squawk(), "--exclude", ",".join(RULES), "--stdin-filepath", "x"], input=b"")[0] == 0


def test_a_file_runs_in_a_transaction_unless_it_is_one_statement_that_cannot() -> None:
    rule = "ban-concurrent-index-creation-in-transaction"
    one = "CREATE INDEX CONCURRENTLY i ON a (b);"
    assert rule not in {each.rule for each in check(script(one), pg_version="16").findings}
    assert rule in {each.rule for each in check(script(one + "SELECT 1;"), pg_version="16").findings}


def test_without_squawk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        lint.run("SELECT 1", name="x", pg_version="16")
    assert "pip install squawk-cli" in caught.value.advice


def test_squawk_that_fails_is_not_squawk_that_found_nothing() -> None:
    with pytest.raises(CommandFailed, match="Invalid number"):
        lint.run("SELECT 1", name="x", pg_version="newest")
