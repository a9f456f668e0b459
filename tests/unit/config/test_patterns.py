"""One schema per tenant, named by a pattern."""

from __future__ import annotations

import pytest

from naap_ops.config.patterns import schema_for
from naap_ops.errors import ConfigurationError, UsageError


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


@pytest.mark.parametrize("pattern", ["tenant", "tenant_*_*", ""])
def test_a_pattern_has_exactly_one_star(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"exactly one '\*'"):
        schema_for(pattern, "acme")


@pytest.mark.parametrize("slug", ["", "a\0b"])
def test_a_slug_that_cannot_be_a_name(slug: str) -> None:
    with pytest.raises(UsageError):
        schema_for("tenant_*", slug)
