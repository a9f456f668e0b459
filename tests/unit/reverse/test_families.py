"""The families of statements: modules, templates and golden cases agree, and no kind of statement is without a family."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from naap_ops.postgres.catalog.snapshot import KINDS
from naap_ops.reverse import families
from naap_ops.reverse.families import family_of
from naap_ops.reverse.render import own_templates
from naap_ops.reverse.script import parse
from tests.samples import histories

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "naap_ops/reverse/families").glob("*.py") if path.stem != "__init__")
# Kinds that change nothing which outlives the session.
HARMLESS = re.compile(
    r"SET|RESET|SHOW|BEGIN|COMMIT|ROLLBACK|START TRANSACTION|SAVEPOINT|RELEASE|LOCK|VACUUM|ANALYZE|REINDEX|EXPLAIN"
)


def test_every_module_is_registered_under_its_name() -> None:
    assert sorted(families.NAMES) == MODULES
    assert [family.name for family in families.families()] == list(families.NAMES)


def test_every_family_has_golden_cases() -> None:
    golden = {path.stem for path in (ROOT / "tests/golden").glob("*.yaml")}
    assert set(MODULES) <= golden


def test_every_kind_of_object_is_some_familys_to_undo() -> None:
    reads = [kind for family in families.families() for kind in family.reads]
    assert sorted(reads) == sorted(KINDS)


def test_every_template_is_used_and_every_used_one_exists() -> None:
    there = {str(path.relative_to(own_templates())).removesuffix(".sql.j2") for path in own_templates().glob("*/*.sql.j2")}
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "naap_ops/reverse").rglob("*.py"))
    words = "|".join(MODULES)
    named = set(re.findall(rf'"((?:{words})/[a-z_]+)"', text))
    assert named <= there
    computed = {f"column/{what}" for what in ("storage", "compression", "statistics", "options")}
    assert there - named <= computed


def test_templates_belong_to_a_family() -> None:
    assert {path.name for path in own_templates().iterdir() if path.is_dir()} <= set(MODULES)


@pytest.mark.long
def test_no_statement_of_the_corpus_is_without_a_family() -> None:
    kinds = {
        kind
        for files in histories().values()
        for file in files
        for statement in parse(file.read_bytes(), name=file.parent.name).statements
        for kind in statement.kinds
    }
    assert [kind for kind in sorted(kinds) if not family_of(kind) and not HARMLESS.match(kind)] == []
