"""Which transactions a snapshot saw."""

from __future__ import annotations

from naap_ops.backup.transactions import horizon, unseen


def test_members_as_32_bit_ids() -> None:
    assert unseen("100:105:100,103") == ("105", ["100", "103"])
    assert unseen("100:100:") == ("100", [])
    assert horizon("100:105:100,103") == "100"
    assert (horizon(f"{2**32 + 7}:{2**32 + 9}:"), unseen(f"{2**32}:{2**32 + 1}:")) == ("7", ("3", []))
