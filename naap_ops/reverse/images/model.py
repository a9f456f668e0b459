"""What is kept of a table, and where: the contract between those who take images and those who use them.

Names are those of the starting state, before the migration; ``after`` those that it leaves. Columns of an image have no names
of their own: ``k1`` is the first of the key, ``p1`` the first column before, ``q1`` the first one after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from naap_ops.reverse.render import quoted

SCHEMA: Final = "naap_ops"
SOURCES: Final = ("capture", "backup")

Name = tuple[str, str]


@dataclass(frozen=True)
class KeptColumn:
    """``after`` None: the migration takes it away. ``plain``: its type is the server's own, and is kept as it is, else as text;
    ``after_plain``: the same for the type afterwards. ``equal``: how values after are compared: by ``native`` equality, as text
    under collation ``C``, or by their ``text``. ``retyped``: its type is another afterwards."""

    name: str
    after: str | None
    plain: bool
    after_plain: bool = True
    equal: str = "native"
    retyped: bool = False


@dataclass(frozen=True)
class Keep:
    """What is kept of one table. ``after`` None: the migration drops it. ``whole``: rows may go or come, too, and ``columns``
    are all but the generated ones. ``key`` empty: only rows that went can be told, and brought back. ``queried``: rows came
    that a query gave, and nothing else; without a capture it is asked again, for a backup lacks what it gave out of newer
    rows. ``by_query``: all rows that came did so, whatever else was done."""

    relation: Name
    after: Name | None
    key: tuple[KeptColumn, ...]
    columns: tuple[KeptColumn, ...]
    whole: bool
    statements: tuple[int, ...] = ()
    queried: bool = False
    by_query: bool = False

    @property
    def compared(self) -> bool:
        """It has to be read a second time, after the migration."""
        return self.after is not None and (self.whole or any(column.after is not None for column in self.columns))

    @property
    def everything(self) -> bool:
        """Rows that the migration did not touch are kept, too: a column goes, and with it all its values."""
        return any(column.after is None for column in self.columns)

    def moved(self, own: str, schema: str) -> Keep:
        """The same of another tenant: what lies in schema ``own`` is meant in ``schema``."""
        relation, after = (
            (schema, name[1]) if name is not None and name[0] == own else name for name in (self.relation, self.after)
        )
        assert relation is not None
        return replace(self, relation=relation, after=after)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Keep:
        """What :meth:`as_dict` gave."""
        key, columns = (tuple(KeptColumn(**each) for each in data[part]) for part in ("key", "columns"))
        after = tuple(data["after"]) if data["after"] else None
        return cls(
            tuple(data["relation"]),
            after,
            key,
            columns,
            data["whole"],
            tuple(data["statements"]),
            data.get("queried", False),
            data.get("by_query", False),
        )


@dataclass(frozen=True)
class Cannot:
    """What no image can bring back, and why. ``column`` None: its rows."""

    relation: Name | None
    column: str | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Image:
    """A keep that was, or is to be, taken. ``table``: its name in schema ``naap_ops``; ``rows`` and ``bytes``: None before.

    ``staged``: columns are to be filled out of it before the reverse's own transaction, where that can be."""

    keep: Keep
    table: str
    source: str = "capture"
    rows: int | None = None
    bytes: int | None = None
    staged: bool = False

    @property
    def name(self) -> str:
        """As SQL."""
        return f"{SCHEMA}.{quoted(self.table)}"

    @property
    def tells_queried(self) -> bool:
        """It alone knows which rows a query put there, and what they were."""
        return self.keep.by_query and self.source == "capture"

    @property
    def aside(self) -> str:
        """The temporary table in which the rows of before wait for those of after, as SQL."""
        return f"pg_temp.{quoted(f'naap_ops before {self.table}')}"


def table_of(migration: str, relation: Name) -> str:
    """The name of an image: the same wherever it is taken, so that a text proved on a shadow fits the live database."""
    digest = hashlib.sha256("\0".join((migration, *relation)).encode()).hexdigest()
    return f"image_{digest[:24]}"


def images_of(migration: str, keeps: tuple[Keep, ...], source: str = "capture") -> tuple[Image, ...]:
    """One image per keep."""
    return tuple(Image(keep, table_of(migration, keep.relation), source) for keep in keeps)
