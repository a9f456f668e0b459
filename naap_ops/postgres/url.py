"""Prisma's URL to libpq and back.

Client tools stop at parameters they do not know (``invalid URI query parameter: "schema"``), so every address is translated
here, once. What is Prisma's own is read or dropped, what is libpq's is kept, what another driver put there is dropped.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from naap_ops import redact
from naap_ops.config import dsn
from naap_ops.errors import UnusableUrl
from naap_ops.postgres.conninfo import NO_VARIABLE, VARIABLES, ConnInfo, from_keywords

_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_ENCRYPTED_KEY = "client tools cannot be given sslpassword: use an sslkey without passphrase, mode 0600"
# Prisma's own and other drivers' words that begin like libpq's; any other unknown ssl* is taken for a typing error.
_FOREIGN_SSL = frozenset({"ssl", "sslaccept", "sslidentity", "sslpassword"})


def parse_url(url: str, *, source: str = "") -> ConnInfo:
    """What libpq gets for a Prisma URL, a libpq URL, or libpq keywords (``host=... dbname=...``).

    Raises UnusableUrl, naming ``source``, for an address no dump is possible through and for what is not PostgreSQL's address.
    """
    text = url.strip()
    variable = source or "the database URL"
    dsn.register_secrets(text)
    try:
        refusal = dsn.refusal(text)
        if refusal is not None:
            raise UnusableUrl(variable=variable, reason=refusal.reason, hint=refusal.instead)
        words = _keyword_string(text) if dsn.is_keywords(text) else _url(text)
        _checked(words)
        return from_keywords(words, schema=words.get("schema") or "public", source=source)
    except ValueError as error:
        raise UnusableUrl(variable=variable, reason=str(error)) from None


def _keyword_string(text: str) -> dict[str, str]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        words = {key: str(value) for key, value in conninfo_to_dict(text).items() if value is not None}
    except ProgrammingError:
        # libpq's own message repeats the word it stumbled over, which can be a piece of the password.
        raise ValueError("libpq does not understand its keywords (host=... port=... dbname=... user=...)") from None
    if words.get("sslpassword"):
        raise ValueError(_ENCRYPTED_KEY)
    return words


def _url(text: str) -> dict[str, str]:
    parts = dsn.split(text)
    if parts.scheme not in dsn.SCHEMES:
        raise ValueError(f"{parts.scheme}:// is not PostgreSQL: a URL here begins with postgresql://")
    hosts = ",".join(host for host, _ in parts.hosts)
    ports = ",".join(str(port or "") for _, port in parts.hosts)
    words = {"user": parts.user, "password": parts.password, "dbname": parts.dbname}
    words |= {"host": hosts if hosts.strip(",") else "", "port": ports if ports.strip(",") else ""}
    # As in libpq, a parameter outranks the place before the question mark: ?host=/var/run/postgresql is how sockets are given.
    return {**words, **_translated({key: value for key, value in parts.query if value})}


def _translated(query: dict[str, str]) -> dict[str, str]:
    if query.get("sslmode") == "no-verify":  # node-postgres, and so Prisma's driver adapters
        query = {**query, "sslmode": "require", "sslaccept": "accept_invalid_certs"}
    kept = {
        key: value for key, value in query.items() if key in VARIABLES or key in NO_VARIABLE or key in ("schema", "service")
    }
    for key in query.keys() - kept.keys() - _FOREIGN_SSL:
        if key.startswith("ssl"):
            raise ValueError(f"it has a TLS parameter nobody knows, {key!r}")
    if query.get("ssl") == "true":  # libpq itself accepts this spelling of JDBC's in URLs
        kept.setdefault("sslmode", "require")
    _authority(kept, query)
    _acceptance(kept, query)
    return kept


def _authority(kept: dict[str, str], query: dict[str, str]) -> None:
    """``sslcert`` is the client's certificate to libpq, the authority's to Prisma, whose client certificate is ``sslidentity``.

    Source: prisma-engines, quaint/src/connector/postgres/url.rs (``certificate_file``, used as root certificate). Without
    ``sslaccept`` Prisma reads the file and checks nothing; here who names an authority gets it checked. A PKCS #12 file
    (``sslidentity``) is nothing libpq can read: such servers need ``sslcert`` and ``sslkey`` in the URL.
    """
    if "sslkey" in query:
        if "sslpassword" in query:
            raise ValueError(_ENCRYPTED_KEY)
        return
    if "sslcert" not in query or "sslrootcert" in query:
        return
    authority = kept.pop("sslcert")
    if query.get("sslaccept") != "accept_invalid_certs":
        kept["sslrootcert"] = _found(authority)
        kept.setdefault("sslmode", "verify-ca")


def _found(certificate: str) -> str:
    """Prisma takes relative paths from the folder of its schema, ``prisma`` by default."""
    beside_schema = Path("prisma") / certificate
    return str(beside_schema) if not Path(certificate).exists() and beside_schema.exists() else certificate


def _acceptance(kept: dict[str, str], query: dict[str, str]) -> None:
    """``sslaccept``: Prisma takes every value but ``accept_invalid_certs`` for ``strict``, which checks chain and host name."""
    accept = query.get("sslaccept")
    if accept == "accept_invalid_certs":
        if not kept.setdefault("sslmode", "require").startswith("verify"):
            kept.pop("sslrootcert", None)  # its presence alone would have libpq check the chain
    elif accept and kept.get("sslmode") != "disable":
        kept["sslmode"] = "verify-full"


def _checked(words: dict[str, str]) -> None:
    if any("\0" in value for value in words.values()):
        raise ValueError("it holds a NUL character (%00)")
    mode, timeout = words.get("sslmode"), words.get("connect_timeout")
    if mode and mode not in _SSLMODES:
        raise ValueError(f"sslmode {mode!r} is none of {', '.join(_SSLMODES)}")
    if timeout and not timeout.removeprefix("-").isdecimal():
        raise ValueError(f"connect_timeout {timeout!r} is not a number of seconds")


def to_url(info: ConnInfo, *, password: bool = True, masked: bool = False) -> str:
    """The inverse of :func:`parse_url`; ``masked`` puts ``***`` where the password was."""
    secret = redact.MASK if masked else quote(info.password or "", safe="") if password else ""
    credentials = quote(info.user or "", safe="") + (f":{secret}" if secret else "")
    query = {key: value for key, value in info.params.items() if key != "port"}
    hosts = info.hosts() if info.host else [("", info.port)]
    if any(host.startswith(("/", "@")) for host, _ in hosts):
        # Prisma wants a host before the question mark even where it does not count.
        query["host"], hosts = str(info.host), [("localhost", port) for _, port in hosts]
    if info.schema != "public":
        query["schema"] = info.schema
    words = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    place = ",".join(_place(host, port) for host, port in hosts)
    path = quote(info.dbname or "", safe="")
    return f"postgresql://{credentials}{'@' if credentials else ''}{place}/{path}{'?' if words else ''}{words}"


def _place(host: str, port: int | None) -> str:
    name = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="")
    return f"{name}:{port}" if port else name
