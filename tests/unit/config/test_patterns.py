"""One schema per tenant, named by a pattern."""

from __future__ import annotations

import pytest

from naap_ops.clock import now
from naap_ops.config.patterns import matching, schema_for, slug_of
from naap_ops.errors import ConfigurationError, UsageError
from naap_ops.postgres.databases import derived_name


@pytest.mark.parametrize(
    ("pattern", "slug", "schema"),
    [
        ("tenant_*", "acme", "tenant_acme"),
        ("*_data", "acme", "acme_data"),
        ("*", "a b", "a b"),
        ("t_*", "*", "t_*"),
        ("ü_*", "é", "ü_é"),
    ],
)
def test_the_slug_takes_the_place_of_the_star(pattern: str, slug: str, schema: str) -> None:
    assert schema_for(pattern, slug) == schema
    assert slug_of(pattern, schema) == slug
    assert slug_of("other_*", schema) is None


@pytest.mark.parametrize("pattern", ["tenant", "tenant_*_*", ""])
def test_a_pattern_has_exactly_one_star(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"exactly one '\*'"):
        schema_for(pattern, "acme")


@pytest.mark.parametrize("slug", ["", "a\0b"])
def test_a_slug_that_cannot_be_a_name(slug: str) -> None:
    with pytest.raises(UsageError):
        schema_for("tenant_*", slug)


@pytest.mark.parametrize("pattern", ["tenant_*", "*"])
@pytest.mark.parametrize("role", ["before", "undone"])
def test_what_a_restore_has_kept_is_no_tenant(pattern: str, role: str) -> None:
    kept = derived_name("tenant_acme", role, now())
    long = derived_name("tenant_" + "x" * 56, role, now())
    names = ["tenant_acme", kept, long, "tenant_before_20261121T031500Z", "tenant_b__before_"]
    assert matching(pattern, names) == ["tenant_acme", "tenant_b__before_", "tenant_before_20261121T031500Z"]
