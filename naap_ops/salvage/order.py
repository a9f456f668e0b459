"""In which order tables are written: parents before children; tables of a cycle of foreign keys together."""

from __future__ import annotations

from collections.abc import Iterable

from naap_ops.salvage.model import ForeignKey, Name


def groups(names: Iterable[Name], keys: Iterable[ForeignKey]) -> list[list[Name]]:
    """Tables that refer to one another in a circle are one group; a group comes after those that it refers to."""
    known = set(names)
    parents: dict[Name, set[Name]] = {name: set() for name in known}
    for key in keys:
        if key.child in known and key.parent in known:
            parents[key.child].add(key.parent)
    above = {name: _above(name, parents) for name in known}
    left, found = set(known), []
    # The more tables a table reaches, the later it comes; those of one circle reach the same ones.
    for name in sorted(known, key=lambda name: (len(above[name] | {name}), name)):
        if name in left:
            circle = sorted(other for other in left if other == name or (name in above[other] and other in above[name]))
            left -= set(circle)
            found.append(circle)
    return found


def refers_to_itself(group: list[Name], keys: Iterable[ForeignKey]) -> bool:
    """Whether its rows must go in one statement."""
    return len(group) > 1 or any(key.child == key.parent == group[0] for key in keys)


def _above(name: Name, parents: dict[Name, set[Name]]) -> set[Name]:
    found: set[Name] = set()
    left = [name]
    while left:
        for parent in parents[left.pop()] - found:
            found.add(parent)
            left.append(parent)
    return found
