"""The manifest: read back as it was written, and never believed when it is not what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naap_ops.backup.manifest import VERSION, FileFact, Manifest, Scope, TableFact
from naap_ops.errors import BackupDamaged, NewerFormat

MakeManifest = Callable[..., Manifest]
ID = "20261121T031500Z-5f3a1c"


def encoded(values: dict[str, Any]) -> bytes:
    """A manifest of these values, with the checksum as anybody can compute it from the documentation."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps({**values, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def values_of(manifest: Manifest) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(manifest.to_json())
    del values["checksum"]
    return values


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=63)


@given(
    schema=NAMES,
    name=NAMES,
    rows=st.none() | st.integers(0, 2**63),
    seconds=st.floats(0, 1e9, allow_nan=False),
    objects=st.lists(st.just("1259:16400")),
    label=NAMES,
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(
    make_manifest: MakeManifest,
    schema: str,
    name: str,
    rows: int | None,
    seconds: float,
    objects: list[str],
    label: str,
) -> None:
    manifest = make_manifest(
        label=label,
        seconds=seconds,
        scope=Scope([schema], [f"{schema}.{name}"], [name]),
        tables=[TableFact(schema, name, 4_294_967_295, schema, rows, "data/1.dat.zst", objects)],
        files=[FileFact(f"data/{name}", 2**50, "0" * 64)],
    )
    assert Manifest.from_json(manifest.to_json(), id=manifest.id) == manifest
    assert encoded(values_of(manifest)) == json.dumps(json.loads(manifest.to_json())).encode(), "the documented checksum"


def test_it_is_made_for_people_too(make_manifest: MakeManifest) -> None:
    text = make_manifest(label="größe").to_json().decode()
    assert text.startswith('{\n "id": "20261121T031500Z-5f3a1c",\n "label": "größe",\n')
    assert text.endswith('"\n}\n')
    assert list(json.loads(text))[-1] == "checksum"


def test_a_table_is_found_by_its_exact_name(make_manifest: MakeManifest) -> None:
    tables = [TableFact("a", "b.c", 1, "o", 0), TableFact("a.b", "c", 2, "o", 0)]
    manifest = make_manifest(tables=tables)
    assert manifest.table("a.b", "c") is tables[1]
    assert manifest.table("a", "c") is None


@pytest.mark.parametrize(
    ("scope", "whole", "text"),
    [
        (Scope(), True, "all"),
        (Scope(schemas=["a", "b"]), False, "schema a, schema b"),
        (Scope(tables=["a.t"]), False, "table a.t"),
        (Scope(exclude_table_data=["a.t", "a.u"]), True, "all without rows of a.t, a.u"),
    ],
)
def test_the_scope_in_words(scope: Scope, whole: bool, text: str) -> None:
    assert (scope.whole, scope.text()) == (whole, text)


# --- what is no manifest ------------------------------------------------------------------------------------------


def test_any_change_is_found(make_manifest: MakeManifest) -> None:
    text = make_manifest(label="before").to_json()
    for old, new in ((b'"before"', b'"behind"'), (b'"rows": 2', b'"rows": 3'), (b'"toolkit": ""', b'"toolkit": "x"')):
        assert old in text
        with pytest.raises(BackupDamaged, match="does not match its own checksum"):
            Manifest.from_json(text.replace(old, new), id=ID)


@given(position=st.integers(0), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_never_believed(make_manifest: MakeManifest, position: int, bit: int) -> None:
    text = make_manifest().to_json()
    flipped = bytearray(text)
    flipped[position % len(flipped)] ^= 1 << bit
    try:
        found = Manifest.from_json(bytes(flipped), id=ID)
    except (BackupDamaged, NewerFormat):
        return
    assert found == make_manifest(), "only white space may change without notice"


def test_cut_anywhere_it_is_damaged(make_manifest: MakeManifest) -> None:
    text = make_manifest().to_json()
    for length in range(0, len(text) - 2, 7):
        with pytest.raises(BackupDamaged, match="cannot be read"):
            Manifest.from_json(text[:length], id=ID)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"\0\0\0", b"\xff\xfe", b"[]", b"[1]", b"null", b"1", b'"manifest_version"', b"{}", b"not json"),
        *(
            b'{"manifest_version": %s}' % value
            for value in (b'"x"', b"null", b"[]", b"{}", b"Infinity", b"NaN", b"1", b"-1", b"true")
        ),
        b'{"manifest_version": 1, "checksum": "0"}',
        b'{"manifest_version": 1, "label": "\\ud800", "checksum": "0"}',
        b"[" * 100_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_manifest_is_damaged(text: bytes) -> None:
    with pytest.raises(BackupDamaged) as caught:
        Manifest.from_json(text, id=ID)
    assert caught.value.fields["id"] == ID


def test_a_later_version_is_told_apart_whatever_else_it_holds(make_manifest: MakeManifest) -> None:
    for text in (json.dumps({"manifest_version": VERSION + 1}).encode(), make_manifest(manifest_version=VERSION + 1).to_json()):
        with pytest.raises(NewerFormat) as caught:
            Manifest.from_json(text, id=ID)
        assert (caught.value.fields["found"], caught.value.fields["known"]) == (VERSION + 1, VERSION)


@pytest.mark.parametrize("key", ["id", "scope", "files", "tables", "archive", "verified", "database", "wal_lsn"])
def test_a_missing_key_is_damage(make_manifest: MakeManifest, key: str) -> None:
    values = values_of(make_manifest())
    del values[key]
    with pytest.raises(BackupDamaged, match=f"incomplete.*{key}"):
        Manifest.from_json(encoded(values), id=ID)


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": []},
        {"scope": "all"},
        {"tables": {"a": 1}},
        {"tables": [1]},
        {"tables": [["a"]]},
        {"tables": [{"schema": "a"}]},
        {"tables": None},
        {"files": "x"},
        {"files": [{"path": "x", "bytes": 1}]},
        {"files": 7},
        {"verified": []},
        {"verified": "read"},
        {"database": []},
        {"server": None},
    ],
    ids=repr,
)
def test_another_shape_is_damage(make_manifest: MakeManifest, changes: dict[str, Any]) -> None:
    with pytest.raises(BackupDamaged, match="incomplete"):
        Manifest.from_json(encoded({**values_of(make_manifest()), **changes}), id=ID)


def test_a_manifest_of_another_backup_is_damage(make_manifest: MakeManifest) -> None:
    with pytest.raises(BackupDamaged, match="is that of 20261121T031500Z-5f3a1c"):
        Manifest.from_json(make_manifest().to_json(), id="20261121T031500Z-000000")


def test_what_a_later_minor_version_adds_is_left_alone(make_manifest: MakeManifest) -> None:
    """Anywhere: beside the known keys, and inside tables, files and scope. The checksum covers it all the same."""
    manifest = make_manifest()
    values = values_of(manifest)
    values["parity"] = {"method": "age"}
    values["scope"]["roles"] = []
    values["tables"][0]["digest"] = "abc"
    values["files"][0]["part"] = 1
    text = encoded(values)
    assert Manifest.from_json(text, id=ID) == manifest
    with pytest.raises(BackupDamaged, match="checksum"):
        Manifest.from_json(text.replace(b'"age"', b'"agf"'), id=ID)
