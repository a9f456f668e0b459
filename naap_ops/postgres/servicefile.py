"""``pg_service.conf``: the keywords of one service, found and read as libpq does (fe-connect.c, parseServiceFile).

libpq reads it by itself too, but ranks a service above the PG* variables beside it: a tool told ``PGSERVICE`` and
``PGDATABASE`` goes to the service's database. So the service is resolved before, and nobody below hears its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from naap_ops.errors import ConfigurationError
from naap_ops.files import home

# Compiled into Debian's libpq and into the one that psycopg brings along.
_SYSTEM_FOLDER = "/etc/postgresql-common"


def lookup(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The keywords of ``service``. Raises ConfigurationError if no file defines it or its definition cannot be read."""
    looked_at = candidates(environ)
    for path in looked_at:
        try:
            content = path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(detail=f"{path} cannot be read: {error}") from None
        found = parse(content, service, str(path))
        if found is not None:
            return found
    raise ConfigurationError(
        detail=f"service {service!r} is not defined in {' or '.join(str(path) for path in looked_at)}",
        hint="Define it there as [name] with host=, port=, dbname=, user=, or set PGSERVICEFILE or PGSYSCONFDIR.",
    )


def candidates(environ: Mapping[str, str]) -> list[Path]:
    """The files in libpq's order: PGSERVICEFILE or ~/.pg_service.conf, then the system's (PGSYSCONFDIR)."""
    own = Path(environ["PGSERVICEFILE"]) if environ.get("PGSERVICEFILE") else home(environ) / ".pg_service.conf"
    return [own, Path(environ.get("PGSYSCONFDIR") or _SYSTEM_FOLDER) / "pg_service.conf"]


def parse(content: str, service: str, name: str) -> dict[str, str] | None:
    """The keywords of ``service``, the first of a repeated one; None if it is not defined here."""
    found: dict[str, str] | None = None
    for number, raw in enumerate(content.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found is not None:
                break
            if line.startswith(f"[{service}]"):
                found = {}
        elif found is not None:
            key, equals, value = line.partition("=")
            if not equals or key in ("service", "servicefile") or line.startswith("ldap"):
                raise ConfigurationError(detail=f"{name}, line {number}: only keyword=value can be used in service {service!r}")
            found.setdefault(key, value)
    return found
