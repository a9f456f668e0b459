"""Web addresses that are secrets themselves: whoever knows a webhook or a ping URL can use it.

Of such an address only scheme and host may be shown. Its parts that look like tokens are masked in every other text as well,
because libraries put them into their messages.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from naap_ops import redact

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SEPARATORS = re.compile(r"[/?&=#:@,]")
_HOST = re.compile(r"[a-z0-9-]{1,40}(\.[a-z0-9-]{1,40})*(:\d+)?", re.IGNORECASE)
# The shortest token of a known service is Slack's third (24); ids of healthchecks are UUIDs (36). Shorter words are names.
_TOKEN = 16


def checked(value: object) -> object:
    """``value`` if it is an http(s) address with a host. Raises ValueError, which repeats nothing of it."""
    if isinstance(value, str) and not re.match(r"https?://[^/\s]", value):
        raise ValueError("an http:// or https:// address is wanted")
    return value


def masked(url: str) -> str:
    """Scheme and host of a web address; the scheme alone of any other, as there the host may be the token."""
    match = _SCHEME.match(url)
    if match is None:
        return redact.MASK
    if match[1].lower() not in ("http", "https"):
        return f"{match[1]}://{redact.MASK}"
    authority, _, rest = url[match.end() :].partition("/")
    host = authority.rpartition("@")[2].partition("?")[0]
    return f"{match[1]}://{host}/{redact.MASK}" if rest or "?" in authority else f"{match[1]}://{host}"


def register_secrets(url: str) -> None:
    """Have the address, its password and whatever in it looks like a token masked from now on."""
    _, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    credentials, _, host = authority.rpartition("@")
    _, _, password = credentials.partition(":")
    named = "." in host and _HOST.fullmatch(host) is not None
    if credentials or path:
        redact.register(url)
    for word in (password, *_SEPARATORS.split(path), *(() if named else _SEPARATORS.split(host))):
        if word == password or len(word) >= _TOKEN:
            redact.register(word)
            redact.register(unquote(word))
