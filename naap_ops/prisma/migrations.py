"""The migrations folder: what Prisma takes for a migration, its checksum, and in which order Prisma applies.

Sources: schema-engine/connectors/schema-connector/src/{checksum,migrations_directory}.rs; packages/migrate of Prisma 7.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from naap_ops.errors import ConfigurationError, PrismaUnsupported

SCRIPT = "migration.sql"
DOWN = "down.sql"
LOCK_FILE = "migration_lock.toml"
POSTGRES = ("postgresql", "postgres")

_PROVIDER = re.compile(r'^provider\s*=\s*"([^"]*)"', re.MULTILINE)
_DOWN = re.compile(rb"-- naap: down 1 status=(\w+) sha256=([0-9a-f]{64})\r?")
# ICU's root collation, by which JavaScript's localeCompare goes: these, then digits, then letters whatever their case.
_MARKS = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"


@dataclass(frozen=True)
class Migration:
    """One folder. ``sha256`` None: it has no readable migration.sql, on which Prisma stops (P3015)."""

    name: str
    path: Path
    sha256: str | None

    def matches(self, checksum: str) -> bool:
        """Whether the script is the one that has ``checksum``, with either kind of line ends, as Prisma compares.

        Sums of another length than 64 are those of old Prisma, whose bytes have no leading zeros.
        """
        return self.sha256 is not None and (checksum == self.sha256 or checksum in self._accepted[len(checksum) == 64])

    @functools.cached_property
    def _accepted(self) -> dict[bool, set[str]]:
        """Kept: with a schema per tenant the same script is held against many rows."""
        return {padded: _accepted(self.path / SCRIPT, padded=padded) for padded in (True, False)}

    @property
    def reverse(self) -> str | None:
        """The status of ``down.sql`` (``proved``, ``refused``); ``stale`` when it is another script's; None without one."""
        try:
            with open(self.path / DOWN, "rb") as file:
                mark = _DOWN.match(file.read(8192).partition(b"\n")[2])
        except OSError:
            return None
        if mark is None:
            return "unknown"
        return mark[1].decode() if mark[2].decode() == self.sha256 else "stale"


def _accepted(script: Path, *, padded: bool) -> set[str]:
    text = script.read_bytes()
    forms = (text, text.replace(b"\r\n", b"\n"), re.sub(rb"(?<!\r)\n", b"\r\n", text))
    digests = [hashlib.sha256(form).digest() for form in forms]
    return {digest.hex() if padded else "".join(f"{byte:x}" for byte in digest) for digest in digests}


def migrations(folder: Path) -> list[Migration]:
    """Every folder in ``folder``, in the order of Prisma 7; none where it does not exist.

    Raises ConfigurationError when it cannot be read, PrismaUnsupported when it is Prisma 8's.
    """
    try:
        folders = [path for path in folder.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(detail=f"the migrations folder {folder} cannot be read: {error}") from None
    refuse_contract(folder)
    return sorted((_migration(path) for path in folders), key=lambda migration: locale_key(migration.name))


def _migration(path: Path) -> Migration:
    try:
        return Migration(path.name, path, hashlib.sha256((path / SCRIPT).read_bytes()).hexdigest())
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return Migration(path.name, path, None)


def refuse_contract(folder: Path) -> None:
    """Raise PrismaUnsupported where ``folder`` holds migrations of Prisma 8: ``<space>/<time>_<slug>/ops.json``."""
    found = next((path for pattern in ("*/*/ops.json", "*/ops.json") for path in folder.glob(pattern)), None)
    if found is not None:
        raise PrismaUnsupported(where=found)


def provider(folder: Path) -> str | None:
    """The provider of the lock file; None without one, which Prisma accepts. Raises ConfigurationError."""
    try:
        found = _PROVIDER.search((folder / LOCK_FILE).read_text("utf-8", "replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(detail=f"{folder / LOCK_FILE} cannot be read: {error}") from None
    return found[1] if found else None


@functools.lru_cache(maxsize=4096)
def locale_key(name: str) -> tuple[object, ...]:
    """Sorts as ``localeCompare`` of the root locale does: first without accents and case, then by accents, then small first."""
    plain = [c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c)]
    first = tuple((0, _MARKS.index(c)) if c in _MARKS else (1, ord(c)) if c.isdigit() else (2, ord(c.lower())) for c in plain)
    return first, tuple(unicodedata.normalize("NFD", name.lower())), tuple(c.isupper() for c in plain), name


def misordered(names: Iterable[str]) -> list[str]:
    """The names whose place differs between Prisma before 6.10 (bytes) and later (localeCompare); mostly none."""
    known = list(names)
    by_bytes = sorted(known, key=lambda name: name.encode())
    return [old for old, new in zip(by_bytes, sorted(known, key=locale_key), strict=True) if old != new]
