"""What never reaches a shadow, and what looks like it and may."""

from __future__ import annotations

import pytest

from naap_ops.reverse.refusals import Refusal, refusals
from naap_ops.reverse.script import parse


def against(sql: str) -> list[Refusal]:
    return refusals(parse(sql.encode(), name="migration.sql"))


def body(text: str) -> str:
    return f"DO $do$ BEGIN {text} END $do$"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE DATABASE a", "whole server"),
        ("ALTER DATABASE a SET work_mem = '1MB'", "whole server"),
        ("ALTER DATABASE a RENAME TO b", "whole server"),
        ("DROP DATABASE a", "whole server"),
        ("CREATE USER a", "whole server"),
        ("ALTER ROLE a SET search_path = b", "whole server"),
        ("DROP ROLE IF EXISTS a", "whole server"),
        ("GRANT a TO b", "whole server"),
        ("GRANT CONNECT ON DATABASE a TO b", "whole server"),
        ("COMMENT ON DATABASE a IS 'b'", "whole server"),
        ("REASSIGN OWNED BY a TO b", "whole server"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "whole server"),
        ("CREATE TABLESPACE a LOCATION '/b'", "whole server"),
        ("SELECT pg_terminate_backend(1)", "whole server"),
        ("COPY a FROM PROGRAM 'b'", "files or programs"),
        ("COPY a TO '/b'", "files or programs"),
        ("COPY a FROM STDIN", "simple query"),
        ("SELECT lo_import('/a')", "files or programs"),
        ("INSERT INTO a SELECT pg_catalog.pg_read_file('b')", "files or programs"),
        ("LOAD 'a'", "files or programs"),
        ("CREATE LANGUAGE plpython3u", "files or programs"),
        ("CREATE FUNCTION a() RETURNS int LANGUAGE c AS 'b', 'c'", "files or programs"),
        ("CREATE FUNCTION a() RETURNS int LANGUAGE plpython3u AS 'return 1'", "files or programs"),
        ("DO LANGUAGE plperlu 'x'", "files or programs"),
        ("CREATE FOREIGN TABLE a (b text) SERVER c OPTIONS (program 'd')", "files or programs"),
        ("CREATE SERVER a FOREIGN DATA WRAPPER postgres_fdw", "another server"),
        ("CREATE USER MAPPING FOR a SERVER b", "another server"),
        ("IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c", "another server"),
        ("CREATE SUBSCRIPTION a CONNECTION 'b' PUBLICATION c", "another server"),
        ("CREATE VIEW a AS SELECT * FROM dblink('b', 'c') AS t (d int)", "another server"),
        ("SELECT U&\"\\0064blink_exec\"('a')", "another server"),
        ("SET ROLE a", "another role"),
        ("SET SESSION AUTHORIZATION a", "another role"),
        ("SELECT set_config('role', 'a', false)", "another role"),
        ("PREPARE TRANSACTION 'a'", "outlive"),
        (body("PERFORM dblink('a', 'b');"), "another server"),
        (body("COPY a FROM PROGRAM 'b';"), "files or programs"),
        (body("EXECUTE 'COPY a TO ' || quote_literal('/b');"), "files or programs"),
        (body("IF true THEN CREATE ROLE a; END IF;"), "whole server"),
        (body("EXECUTE format('CREATE DATABASE %I', 'a');"), "whole server"),
        (body("/* now */ ALTER -- so\n SYSTEM SET work_mem = 1;"), "whole server"),
        (body("PERFORM '--' || dblink('a', 'b');"), "another server"),
        (body("PERFORM 1; SET LOCAL ROLE a;"), "another role"),
        ("CREATE FUNCTION a() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM lo_export(1, '/b'); END$$", "files or programs"),
        ("CREATE FUNCTION a() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT pg_reload_conf(); END", "whole server"),
    ],
)
def test_what_leaves_a_shadow_is_refused(sql: str, words: str) -> None:
    found = against(f"SELECT 1; {sql}")
    assert found
    assert all(each.statement.index == 2 and each.advice for each in found)
    assert any(words in each.reason for each in found)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE \"User\" SET role = 'ADMIN'",
        body('UPDATE "User" SET role = \'ADMIN\'; ALTER TABLE "User" DROP role;'),
        body('ALTER TABLE "Copy" RENAME COLUMN "from" TO "to";'),
        body("INSERT INTO a VALUES ('copy'); UPDATE a SET b = 'c';"),
        "RESET ROLE",
        "SELECT set_config('search_path', 'a', false)",
        "CREATE TABLE copy (program text, database text, role text, language text)",
        "INSERT INTO a VALUES ('dblink(', 'COPY a FROM PROGRAM')",
        "CREATE FUNCTION a() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$",
        "CREATE EXTENSION IF NOT EXISTS citext",
        "GRANT SELECT ON a TO b",
        "COMMENT ON TABLE a IS 'b'",
        "CREATE LANGUAGE plperl",
    ],
)
def test_what_only_looks_like_it_may_run(sql: str) -> None:
    assert against(sql) == []
