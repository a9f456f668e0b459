"""From patterns to exact names, and the requests that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from naap_ops.backup.manifest import Scope
from naap_ops.backup.request import BackupRequest, NothingMatches, match, resolve
from naap_ops.errors import UsageError
from naap_ops.postgres.catalog.tables import Table


def table(qualified: str, oid: int, partition_of: int | None = None) -> Table:
    schema, name = qualified.split(".", 1)
    return Table(oid, schema, name, "r", "app", 1, partition_of)


TABLES = [
    table(qualified, oid)
    for oid, qualified in enumerate(
        [
            "public.users",
            "public.users_old",
            "public.Users",
            "public.u*",
            "public.user[s]",
            "public.a.b",
            "a.b",
            "a.users",
            "tenant_x.orders",
            "tenant_y.orders",
            "odd schema.or?er",
        ]
    )
]
SCHEMAS = ["public", "a", "tenant_x", "tenant_y", "tenant_*", "odd schema", "Public"]


def tables(*patterns: str) -> list[str]:
    return resolve(BackupRequest("app", tables=patterns), SCHEMAS, TABLES).tables


def schemas(*patterns: str) -> list[str]:
    return resolve(BackupRequest("app", schemas=patterns), SCHEMAS, TABLES).schemas


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("public", ["public"]),
        ("tenant_x", ["tenant_x"]),
        ("tenant_?", ["tenant_*", "tenant_x", "tenant_y"]),
        ("tenant_*", ["tenant_*"]),  # a schema is really called that
        ("*schema", ["odd schema"]),
        ("[Pp]ublic", ["Public", "public"]),
    ],
)
def test_schemas(pattern: str, expected: list[str]) -> None:
    assert schemas(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("users", ["a.users", "public.users"]),
        ("public.users", ["public.users"]),
        ("public.Users", ["public.Users"]),
        ("public.users*", ["public.users", "public.users_old"]),
        ("u*", ["public.u*"]),  # exact names come first, whatever signs they hold
        ("public.u*", ["public.u*"]),
        ("user[s]", ["public.user[s]"]),
        ("or?er", ["odd schema.or?er"]),
        ("tenant_?.orders", ["tenant_x.orders", "tenant_y.orders"]),
        ("*.orders", ["tenant_x.orders", "tenant_y.orders"]),
        ("orde*", ["tenant_x.orders", "tenant_y.orders"]),
        ("public.a.b", ["public.a.b"]),
        ("odd schema.*", ["odd schema.or?er"]),
    ],
)
def test_tables(pattern: str, expected: list[str]) -> None:
    assert tables(pattern) == expected


def test_several_patterns_add_up_without_repetition() -> None:
    assert tables("public.users", "users", "tenant_x.*") == ["a.users", "public.users", "tenant_x.orders"]
    assert schemas("tenant_x", "tenant_?", "a") == ["a", "tenant_*", "tenant_x", "tenant_y"]


def test_tables_and_left_out_rows_are_resolved_alike() -> None:
    request = BackupRequest("app", exclude_table_data=["*.orders"])
    assert resolve(request, SCHEMAS, TABLES) == Scope(exclude_table_data=["tenant_x.orders", "tenant_y.orders"])
    assert resolve(BackupRequest("app"), SCHEMAS, TABLES) == Scope()


def test_a_partitioned_table_stands_for_its_partitions() -> None:
    parts = [table("s.root", 1), table("s.q1", 2, 1), table("s.q1_jan", 3, 2), table("s.other", 4)]
    assert resolve(BackupRequest("app", tables=["root"]), ["s"], parts).tables == ["s.q1", "s.q1_jan", "s.root"]
    assert resolve(BackupRequest("app", tables=["q1"]), ["s"], parts).tables == ["s.q1", "s.q1_jan"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("user", "users"),
        ("usres", "users"),
        ("public.user", "public.users"),
        ("tenant_x.order", "tenant_x.orders"),
    ],
)
def test_a_table_that_is_not_there_brings_near_ones_to_mind(pattern: str, hint: str) -> None:
    with pytest.raises(NothingMatches, match=f"no table matches '{pattern}'") as caught:
        tables(pattern)
    assert caught.value.exit_code == 2
    assert caught.value.advice.startswith(f"Did you mean {hint}")


def test_a_schema_that_is_not_there() -> None:
    with pytest.raises(NothingMatches, match="no schema matches 'tenant_z'") as caught:
        schemas("public", "tenant_z")
    assert "tenant_x" in caught.value.advice
    with pytest.raises(NothingMatches) as caught:
        match("schema", "zzz", ["public", "a"])
    assert caught.value.advice == "There are: public, a"
    with pytest.raises(NothingMatches) as caught:
        match("schema", "zzz", [])
    assert caught.value.advice == "There are: none"


def test_names_match_with_their_case() -> None:
    with pytest.raises(NothingMatches):
        schemas("TENANT_*")
    assert tables("Users") == ["public.Users"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "everything"},
        {"format": "tar"},
        {"verify": "none"},
        {"jobs": 0},
        {"label": "a/b"},
        {"label": "a\\b"},
        {"label": "a\nb"},
        {"label": "a\0b"},
        {"label": "\x1b[31m"},
        {"label": "x" * 101},
        {"label": "ü" * 51},
        {"label": "\udcff"},
        {"label": "latest"},
    ],
    ids=repr,
)
def test_requests_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        BackupRequest("app", **wrong)
    assert caught.value.exit_code == 2


def test_requests_that_do() -> None:
    for label in ("", "pre_migration", "v1.2 (größe)", "ü" * 50):
        assert BackupRequest("app", label=label).label == label


def test_schemas_and_tables_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        resolve(BackupRequest("app", schemas=["a"], tables=["users"]), SCHEMAS, TABLES)
