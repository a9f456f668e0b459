"""Which transactions a backup's snapshot saw: the manifest's member ``transactions``, ``xmin:xmax:xip,...``, as 32-bit ids.

Source: PostgreSQL documentation, "pg_snapshot Components". A row carries only the low 32 bits of the transaction that wrote it.
"""

from __future__ import annotations

from typing import Final

_MODULUS: Final = 2**32
_FIRST_NORMAL: Final = 3  # transaction ids below are not of transactions


def unseen(transactions: str) -> tuple[str, list[str]]:
    """The first transaction after the snapshot, and those under way in it. Subtransactions of these are not among them."""
    _, first, under_way = transactions.split(":")
    return _short(first), [_short(each) for each in under_way.split(",") if each]


def horizon(transactions: str) -> str:
    """The first transaction that had not ended: whatever is older had, with all its subtransactions, and was seen."""
    return _short(transactions.split(":", maxsplit=1)[0])


def _short(txid: str) -> str:
    return str(max(int(txid) % _MODULUS, _FIRST_NORMAL))
