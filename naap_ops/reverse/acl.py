"""Privileges as statements: from what an object has to what it had.

An aclitem is ``grantee=letters/grantor``, a star after a letter meaning WITH GRANT OPTION (PostgreSQL documentation,
"Privileges", table "ACL Privilege Abbreviations").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from naap_ops.reverse.render import quoted

_WORDS: Final = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
    "s": "SET",
    "A": "ALTER SYSTEM",
    "m": "MAINTAIN",
}
_ITEM: Final = re.compile(r'(?P<grantee>"(?:[^"]|"")*"|[^="]*)=(?P<letters>[a-zA-Z*]*)/(?P<grantor>.*)', re.DOTALL)
MAINTAIN: Final = 17  # from this major on, tables have MAINTAIN

Grants = dict[tuple[str, str], bool]
"""(grantee, letter) -> with grant option; grantee "" is PUBLIC."""


def default_acl(kind: str, owner: str, major: int) -> Grants:
    """What an unset list stands for (``acldefault``). ``kind``: table, sequence, routine, type, schema, column."""
    letters = {
        "table": "arwdDxt" + ("m" if major >= MAINTAIN else ""),
        "sequence": "rwU",
        "routine": "X",
        "type": "U",
        "schema": "UC",
        "large object": "rw",
    }
    found: Grants = {(owner, letter): False for letter in letters.get(kind, "")}
    if kind in ("routine", "type"):
        found |= {("", letter): False for letter in letters[kind]}
    return found


def grantors(items: Iterable[str]) -> set[str]:
    """Who granted what a list of aclitems says."""
    names = (match["grantor"] for item in items if (match := _ITEM.fullmatch(item)) is not None)
    return {name[1:-1].replace('""', '"') if name.startswith('"') else name for name in names}


def given_over(grants: Grants, old: str, new: str) -> Grants:
    """The grants after a change of owner: what the old one had is the new one's."""
    found: Grants = {}
    for (grantee, letter), option in grants.items():
        key = (new if grantee == old else grantee, letter)
        found[key] = found.get(key, False) or option
    return found


def parse_acl(items: Iterable[str]) -> Grants:
    """The grants of a list of aclitems."""
    found: Grants = {}
    for item in items:
        match = _ITEM.fullmatch(item)
        if match is None:
            continue
        name = match["grantee"]
        grantee = name[1:-1].replace('""', '"') if name.startswith('"') else name
        for letter, star in re.findall(r"([a-zA-Z])(\*?)", match["letters"]):
            found[grantee, letter] = bool(star)
    return found


def statements(on: str, have: Grants, want: Grants, *, columns: str = "") -> Iterator[str]:
    """GRANT and REVOKE statements that turn ``have`` into ``want``. ``on``: ``TABLE x``; ``columns``: `` (c)`` for a
    column's."""
    for grantee in sorted({name for name, _ in have.keys() | want.keys()}):
        lost = [letter for (name, letter), option in have.items() if name == grantee and want.get((name, letter)) is None]
        options = [
            letter
            for (name, letter), option in have.items()
            if name == grantee and option and want.get((name, letter)) is False
        ]
        gained = [
            letter for (name, letter), option in want.items() if name == grantee and (name, letter) not in have and not option
        ]
        starred = [
            letter for (name, letter), option in want.items() if name == grantee and option and not have.get((name, letter))
        ]
        role = quoted(grantee) if grantee else "PUBLIC"
        if lost:
            yield f"REVOKE {_words(lost, columns)} ON {on} FROM {role}"
        if options:
            yield f"REVOKE GRANT OPTION FOR {_words(options, columns)} ON {on} FROM {role}"
        if gained:
            yield f"GRANT {_words(gained, columns)} ON {on} TO {role}"
        if starred:
            yield f"GRANT {_words(starred, columns)} ON {on} TO {role} WITH GRANT OPTION"


def _words(letters: list[str], columns: str) -> str:
    return ", ".join(f"{_WORDS[letter]}{columns}" for letter in sorted(letters))
