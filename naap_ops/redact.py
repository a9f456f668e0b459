"""Keeps secrets out of every text that leaves the process.

Passwords register themselves when a connection is read; URLs are masked by shape as well, for text that came from elsewhere.
"""

from __future__ import annotations

import re

MASK = "***"

_known: set[str] = set()
_URL_PASSWORD = re.compile(r"(?<=://)([^:/?#@\s]*):([^@\s/?#]*)(?=@)")
_KEYWORD = re.compile(r"(?i)\b((?:pg)?(?:ssl)?password|api_key|secret[a-z_]*)=([^\s&'\"]+)")


def register(secret: str | None) -> None:
    """Mask ``secret`` in every text from now on. Short or empty ones are left to the patterns."""
    if secret and len(secret) >= 4:
        _known.add(secret)


def text(value: str) -> str:
    """``value`` with known secrets, passwords in URLs and ``password=`` pairs masked."""
    for secret in sorted(_known, key=len, reverse=True):
        value = value.replace(secret, MASK)
    value = _URL_PASSWORD.sub(rf"\1:{MASK}", value)
    return _KEYWORD.sub(rf"\1={MASK}", value)


def argv(words: list[str]) -> list[str]:
    """The same for a command's words."""
    return [text(word) for word in words]
