"""One major runs with every other test; the cases on the other majors belong to the long tests."""

from __future__ import annotations

import pytest

from tests.conftest import DEFAULT_MAJOR


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is long."""
    for item in items:
        name = item.name
        if item.path.parent.name == "golden" and "[pg" in name and f"[pg{DEFAULT_MAJOR}-" not in name:
            item.add_marker(pytest.mark.long)
