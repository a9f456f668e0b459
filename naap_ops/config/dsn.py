"""The text of a database address: taken apart, judged, masked.

Both the settings (which of several URLs to take) and the postgres room (what libpq gets) read addresses, so the one splitter
lives here, below both. It follows Prisma where Prisma and libpq differ: the last ``@`` ends the credentials, ``+`` in the query
is a blank, a broken percent escape stands for itself. No reason given here ever repeats a part of the address that could be a
piece of the password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from naap_ops import redact

SCHEMES = ("postgresql", "postgres")
DEFAULT_PORT = 5432

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")
_KEYWORD = re.compile(r"(?:^|\s)([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*|(?=\s|$))")
_SECRET_KEYS = frozenset({"password", "sslpassword", "api_key"})
_PLAIN_WORDS = frozenset({"postgres", "postgresql", "password", "localhost", "public"})
_ENCODE = "special characters in user, password or database must be percent-encoded (@ %40, / %2F, : %3A, # %23, ? %3F)"


@dataclass(frozen=True)
class Parts:
    """An address taken apart and percent-decoded. ``hosts`` pairs host and port; the query keeps its order and repetitions."""

    scheme: str
    user: str
    password: str = field(repr=False)
    hosts: tuple[tuple[str, int | None], ...]
    dbname: str
    query: tuple[tuple[str, str], ...] = field(repr=False)

    def parameter(self, name: str) -> str:
        """The last value of a query parameter, or an empty string."""
        return next((value for key, value in reversed(self.query) if key == name), "")


@dataclass(frozen=True)
class Refusal:
    """Why no dump is possible through an address, and what to set instead."""

    reason: str
    instead: str = ""


def is_keywords(text: str) -> bool:
    """Whether ``text`` looks like libpq's ``host=... dbname=...`` and not like a URL."""
    return _SCHEME.match(text) is None and _KEYWORD.match(text) is not None


def split(text: str) -> Parts:
    """Take a URL apart. Raises ValueError with a reason that holds nothing of the address but its scheme."""
    if text[:1] in "'\"`" and text:
        raise ValueError("it is wrapped in quote characters (Docker's --env-file keeps them: write the value without quotes)")
    match = _SCHEME.match(text)
    if match is None:
        raise ValueError("it is neither a postgresql:// URL nor libpq keywords (host=... dbname=...)")
    rest, hash_sign, _ = text[match.end() :].partition("#")
    if hash_sign:
        raise ValueError(f"it holds an unencoded '#'; {_ENCODE}")
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    credentials, _, addresses = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    if "@" in path or ("@" in query and "@" not in authority):  # a piece of the password, most likely
        raise ValueError(f"it holds an unencoded '/', '?' or '@'; {_ENCODE}")
    if "/" in path.removesuffix("/"):
        raise ValueError(f"its database name holds an unencoded '/'; {_ENCODE}")
    return Parts(
        scheme=match[1].lower(),
        user=_decoded(user),
        password=_decoded(password),
        hosts=tuple(_address(each) for each in addresses.split(",")),
        dbname=_decoded(path.removesuffix("/")),
        query=tuple(parse_qsl(query, keep_blank_values=True)),
    )


def _decoded(text: str) -> str:
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("its percent-encoding is not UTF-8") from None
    if "\0" in value:
        raise ValueError("it holds a NUL character (%00)")
    return value


def _address(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError("the brackets of its IPv6 address do not match")
        return _decoded(host), port_number(tail[1:])
    host, _, port = text.partition(":")
    if port.count(":"):
        raise ValueError(f"its host and port cannot be told apart: an IPv6 address needs brackets ([::1]:5432), and {_ENCODE}")
    return _decoded(host), port_number(port)


def port_number(text: str) -> int | None:
    """A port, None for an empty text. Raises ValueError."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError(f"its port is not a number from 1 to 65535; {_ENCODE}")
    return int(text)


# --- pooled or not ------------------------------------------------------------------------------------------------


def refusal(text: str) -> Refusal | None:
    """Why ``text`` leads to a pooler or to Prisma Accelerate; None if it does not, or if it is no address at all."""
    if is_keywords(text):
        words = keywords(text)
        port = words.get("port", "")
        return pooled(((words.get("host", ""), int(port) if port.isdecimal() else None),))
    try:
        parts = split(text)
    except ValueError:
        return None
    if parts.scheme.startswith("prisma"):
        return Refusal(
            f"{parts.scheme}:// goes through Prisma's own proxy, and no dump is possible through it",
            "Set DIRECT_URL to the PostgreSQL server's own address, e.g. postgresql://user:password@host:5432/database",
        )
    host, port = parts.parameter("host"), parts.parameter("port")
    hosts = [(host or name, int(port) if port.isdecimal() else number) for name, number in parts.hosts]
    return pooled(hosts, pgbouncer=parts.parameter("pgbouncer").lower())


def pooled(hosts: Iterable[tuple[str, int | None]], *, pgbouncer: str = "") -> Refusal | None:
    """Judge hosts, ports and the value of Prisma's ``pgbouncer`` parameter.

    ``pgbouncer=false`` says that a server really listens on a port that poolers use. Neon's pooled hosts carry ``-pooler``
    behind the endpoint's name; Supabase's pooler shares connections per transaction on 6543, and gives a session of its own on
    5432, which can be dumped through (supabase.com/docs/guides/database/connecting-to-postgres).
    """
    if pgbouncer not in ("", "false", "0"):
        return Refusal("pgbouncer=true says that it leads to a pooler, and a dump needs a session of its own")
    for host, port in hosts:
        label, dot, domain = host.partition(".")
        if label.endswith("-pooler") and dot:
            direct = f"{label.removesuffix('-pooler')}.{domain}"
            return Refusal("its host is a pooler (-pooler)", f"Set DIRECT_URL to the same URL with the host {direct}")
        if host.endswith(".pooler.supabase.com") and port not in (None, DEFAULT_PORT):
            return Refusal(
                "it leads to Supabase's pooler in transaction mode",
                "Set DIRECT_URL to db.<project>.supabase.co:5432, or to the pooler's session mode (port 5432)",
            )
        if port in (6432, 6543) and pgbouncer == "":
            return Refusal(
                f"port {port} is a pooler's, and a dump needs a session of its own",
                f"Set DIRECT_URL to the server's own port, usually {DEFAULT_PORT}; "
                f"if PostgreSQL itself listens on {port}, say so with pgbouncer=false",
            )
    return None


def keywords(text: str) -> dict[str, str]:
    """libpq keywords by shape, for judging and masking; what libpq gets is parsed by libpq."""
    found = _KEYWORD.findall(text)
    return {key: re.sub(r"\\(.)", r"\1", value.removeprefix("'").removesuffix("'")) for key, value in found}


def database_name(text: str) -> str | None:
    """The database an address names; libpq's default, the user's name, if it names none. None for what is not PostgreSQL's."""
    if is_keywords(text):
        words = keywords(text)
        return words.get("dbname") or words.get("user") or None
    try:
        parts = split(text)
    except ValueError:
        return None
    if parts.scheme not in SCHEMES:
        return None
    return parts.parameter("dbname") or parts.dbname or parts.user or None


# --- secrets ------------------------------------------------------------------------------------------------------


def masked(text: str) -> str:
    """``text`` without its secrets, whatever its shape: rather too much is masked than too little."""
    if is_keywords(text):
        return redact.text(_KEYWORD.sub(_masked_keyword, text))
    match = _SCHEME.match(text)
    if match is None:
        return redact.MASK
    rest = text[match.end() :]
    credentials, at, tail = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    if not at and re.match(r"[^/?#]*:(?!\d*(?:[/?#,]|$))", rest) and not rest.startswith("["):
        return f"{match[1]}://{redact.MASK}"
    shown = f"{user}:{redact.MASK}" if colon else user
    return redact.text(f"{match[1]}://{shown}{at}{tail}")


def _masked_keyword(match: re.Match[str]) -> str:
    return match[0].replace(match[2], redact.MASK) if match[1] in _SECRET_KEYS and match[2] else match[0]


def register_secrets(text: str) -> None:
    """Have the password of an address masked everywhere from now on, as written and as decoded."""
    if is_keywords(text):
        words = keywords(text)
        for key in _SECRET_KEYS & words.keys():
            register_password(words[key], public=(words.get("user"), words.get("dbname"), words.get("host")))
        return
    _, _, rest = text.partition("://")
    credentials, _, tail = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    register_password(password, public=(user, database_name(text)))
    register_password(unquote(password), public=(unquote(user), database_name(text)))
    for key, value in parse_qsl(tail.partition("?")[2]):
        if key in _SECRET_KEYS:
            register_password(value)


def register_password(password: str | None, *, public: Iterable[str | None] = ()) -> None:
    """Register one password, unless it is also a name that messages must show: ``postgres:postgres@`` hides nothing."""
    if password and password not in _PLAIN_WORDS and password not in set(public):
        redact.register(password)
