"""Settings of the property tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline: how long a case takes says nothing here.
settings.register_profile("naap_ops", deadline=None)
settings.load_profile("naap_ops")
