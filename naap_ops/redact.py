"""Keeps secrets out of every text that leaves the process.

Passwords register themselves when a connection is read; URLs are masked by shape as well, for text that came from elsewhere.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_known: set[str] = set()
# Up to the last @ of the word, because people write passwords with @ / # ? in them. What reads as a port is no password; a
# double quote before punctuation ends a JSON string. The limit keeps long lines from being searched over and over.
_URL_PASSWORD = re.compile(
    r"""(?<=://)([^:/?#@\s]*):(?!\d{1,5}(?:[/?#\s"',;)\]}>]|$))(?:[^\s"]|"(?![,:}\]\s]|$)){0,999}(?=@)"""
)
# As in libpq's conninfo, shells, .env files and query strings; the value may be quoted.
_KEYWORD = re.compile(
    r"((?<![a-z_])[a-z_]*(?:password|secret[a-z_]*|api_?key|token)[ \t]*=(?:[ \t]+(?![a-z_]+[ \t]*=))?)"
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?:[^\s&'"]|['"](?![\s,;)\]}]|$))+)""",
    re.IGNORECASE,
)


def register(secret: str | None) -> None:
    """Mask ``secret`` in every text from now on. Short or empty ones are left to the patterns."""
    if secret and len(secret) >= 4:
        _known.add(secret)


def text(value: str) -> str:
    """``value`` with known secrets, passwords in URLs and ``password=`` pairs masked."""
    for secret in sorted(_known, key=len, reverse=True):
        value = value.replace(secret, MASK)
    value = _URL_PASSWORD.sub(rf"\1:{MASK}", value)
    return _KEYWORD.sub(rf"\1{MASK}", value)


def argv(words: list[str]) -> list[str]:
    """The same for a command's words."""
    return [text(word) for word in words]


def values(value: Any) -> Any:
    """JSON-ready ``value`` with every text in it masked. Over JSON as a whole a mask would cut through its escapes."""
    if isinstance(value, dict):
        return {key: values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return list(map(values, value))
    return text(value) if isinstance(value, str) else value
