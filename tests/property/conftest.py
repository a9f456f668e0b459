"""What the property tests share: no deadline, and a database in which one round trip after the other is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from naap_ops.postgres.conninfo import ConnInfo
from tests.imaging import Trip, trip

# No deadline: how long a case takes says nothing here.
settings.register_profile("naap_ops", deadline=None)
settings.load_profile("naap_ops")


@pytest.fixture
def base(any_database: ConnInfo) -> Iterator[Trip]:
    """For :meth:`Trip.afresh`."""
    with trip(any_database, "") as journey:
        yield journey
