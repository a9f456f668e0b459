"""One connection, told to libpq in two ways: keywords for psycopg, environment variables for the client tools.

A URL leaves gaps; libpq fills them from a service, then from PG* variables, then from its defaults. :func:`resolve` fills them
here and in that order, because the tools run without the caller's PG* variables and both ways must lead to the same database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import redact
from naap_ops.config import dsn
from naap_ops.errors import ConfigurationError, UnusableUrl
from naap_ops.files import home

if TYPE_CHECKING:
    from naap_ops.config.choice import DatabaseChoice

# libpq's keywords and the variables that mean the same (PostgreSQL 18, "Parameter Key Words" and "Environment Variables").
# Left out: client_encoding, which would change the encoding of a dump; service, which would outrank the variables beside it.
VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "require_auth": "PGREQUIREAUTH",
    "channel_binding": "PGCHANNELBINDING",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcertmode": "PGSSLCERTMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslsni": "PGSSLSNI",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "min_protocol_version": "PGMINPROTOCOLVERSION",
    "max_protocol_version": "PGMAXPROTOCOLVERSION",
    "requirepeer": "PGREQUIREPEER",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "gsslib": "PGGSSLIB",
    "gssdelegation": "PGGSSDELEGATION",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}
# Keywords without a variable: psycopg gets them, the tools do without.
NO_VARIABLE = frozenset({"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"})
_FIELDS = ("host", "port", "user", "dbname", "password")
_ENOUGH = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE", "PGUSER")
# Where distributions keep the public authorities; libpq before 16 does not know sslrootcert=system.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True)
class ConnInfo:
    """Where to connect and as whom; None is libpq's default. The password is masked in every text from its reading on.

    ``host`` is a name, an address, a socket directory, or libpq's list of them; ports that differ from host to host stand in
    ``params["port"]``. ``params`` holds further libpq keywords. ``schema`` is Prisma's: where ``_prisma_migrations`` and
    unqualified names live. ``source`` is for messages: ``DIRECT_URL in .env``.
    """

    host: str | None
    port: int | None
    user: str | None
    dbname: str | None
    password: str | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    schema: str = "public"
    source: str = ""

    def __post_init__(self) -> None:
        dsn.register_password(self.password, public=(self.user, self.dbname, self.host))

    def with_dbname(self, dbname: str) -> ConnInfo:
        """The same server and user, another database."""
        return replace(self, dbname=dbname)

    def with_params(self, **params: str) -> ConnInfo:
        """The same connection with these libpq keywords on top."""
        return replace(self, params={**self.params, **params})

    def with_settings(self, settings: Mapping[str, str]) -> ConnInfo:
        """The same connection with server settings for its session: ``-c name=value`` added to ``options``.

        Spaces and backslashes in values are escaped with a backslash, as libpq's ``options`` wants.
        """
        words = [f"-c {name}={value}".replace("\\", "\\\\") for name, value in settings.items()]
        words = [word[:3] + word[3:].replace(" ", "\\ ") for word in words]
        return self.with_params(options=" ".join([*filter(None, [self.params.get("options")]), *words]))

    def kwargs(self, **overrides: str | int) -> dict[str, str | int]:
        """For ``psycopg.connect(**kwargs)``: what is set, with ``overrides`` on top.

        An empty value keeps the libpq of this process from taking PGHOSTADDR or PGOPTIONS, which would lead elsewhere.
        """
        blanks = {key: "" for key in ("hostaddr", "options") if VARIABLES[key] in os.environ}
        return {**blanks, **self._keywords(), **overrides}

    def words(self) -> dict[str, str]:
        """The libpq keywords that are set, as text."""
        return {key: str(value) for key, value in self._keywords().items()}

    def _keywords(self) -> dict[str, str | int]:
        own = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return {**own, **self.params}

    def tool_env(self) -> dict[str, str]:
        """The same as PG* variables for client tools, whose command line others can read. libpq takes PGDATABASE literally."""
        names = {**VARIABLES, "service": "PGSERVICE"}
        return {names[key]: value for key, value in self.words().items() if key in names}

    def hosts(self) -> list[tuple[str, int | None]]:
        """Hosts paired with their ports, in libpq's order."""
        hosts = (self.host or self.params.get("hostaddr") or "").split(",")
        ports = [int(port) if port else None for port in self.params.get("port", "").split(",")]
        return list(
            zip(hosts, ports if len(ports) == len(hosts) and "port" in self.params else [self.port] * len(hosts), strict=True)
        )

    @property
    def address(self) -> str:
        """``host:port`` or ``/socket/dir:port``, for messages; several are separated by commas."""
        return ",".join(f"{_bracketed(host) or 'local socket'}:{port or dsn.DEFAULT_PORT}" for host, port in self.hosts())

    def display(self) -> str:
        """The URL with its password masked."""
        from naap_ops.postgres.url import to_url

        return redact.text(to_url(self, password=False, masked=self.password is not None))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def from_keywords(words: Mapping[str, str], *, schema: str = "public", source: str = "") -> ConnInfo:
    """A connection from libpq's keywords; empty values count as unset, as in libpq. Raises ValueError for a bad port."""
    words = {key: value for key, value in words.items() if value}
    known = VARIABLES.keys() | NO_VARIABLE | {"service"}
    params = {key: value for key, value in words.items() if key in known and key not in _FIELDS}
    ports = [dsn.port_number(port) for port in words.get("port", "").split(",")]
    if len(set(ports)) > 1:
        params["port"] = words["port"]
    return ConnInfo(
        host=words.get("host"),
        port=ports[0] if len(set(ports)) == 1 else None,
        user=words.get("user"),
        dbname=words.get("dbname"),
        password=words.get("password"),
        params=params,
        schema=schema,
        source=source,
    )


def by_variables(environ: Mapping[str, str]) -> bool:
    """Whether PG* variables say where to connect."""
    return any(environ.get(name) for name in _ENOUGH)


def resolve(choice: DatabaseChoice, environ: Mapping[str, str] | None = None) -> ConnInfo:
    """The connection of a chosen database: its URL, completed from a service and PG* variables as libpq does; else those alone.

    Raises UnusableUrl for a pooled or broken URL, ConfigurationError if nothing says where to connect or a service is unknown.
    """
    from naap_ops.postgres import servicefile
    from naap_ops.postgres.url import parse_url

    environ = os.environ if environ is None else environ
    if choice.url:
        info = parse_url(choice.url, source=choice.source)
    elif by_variables(environ):
        info = ConnInfo(None, None, None, None, source=choice.source)
    else:
        raise ConfigurationError(
            detail="no database is configured",
            hint="Set DATABASE_URL or DIRECT_URL in the environment or in .env, [databases.NAME] in naap_ops.toml, or PGHOST.",
        )
    words = info.words()
    service = words.pop("service", "") or environ.get("PGSERVICE", "")
    defined = servicefile.lookup(service, environ) if service else {}
    place = f"the service {service}" if service else "PGHOST and PGPORT"
    variables = {key: environ[name] for key, name in VARIABLES.items() if environ.get(name)}
    words = _completed({**variables, **defined, **words}, environ)
    try:
        full = from_keywords(words, schema=info.schema, source=info.source)
    except ValueError as error:
        raise UnusableUrl(variable=place, reason=str(error)) from None
    refusal = dsn.pooled(each for each in full.hosts() if each not in info.hosts())
    if refusal is not None:
        raise UnusableUrl(variable=place, reason=refusal.reason, hint=refusal.instead)
    return full


def _completed(words: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """libpq's own defaults where others need to know them: the user, the database of that name, the authorities to trust."""
    import pwd

    if not words.get("user"):
        try:
            words["user"] = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return words
    if not words.get("dbname"):
        words["dbname"] = words["user"]
    roots = home(environ) / ".postgresql" / "root.crt"
    if words.get("sslmode") == "verify-full" and not words.get("sslrootcert") and not os.path.exists(roots):
        # libpq would refuse to connect without a file of authorities; Prisma's strict means the system's.
        words["sslrootcert"] = next((bundle for bundle in _BUNDLES if Path(bundle).exists()), "system")
    return words
