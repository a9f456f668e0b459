"""What a rollback has parked comes back when its migration is deployed again, in the migration's own transaction.

A script that cannot share its transaction, and a configured command, are followed by one transaction of ours. Of one that
somebody else has deployed, or where we were ended in between, it stays parked: `invoke reapply` brings it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naap_ops.deploys.capture import Capturing
from naap_ops.postgres.session import connect
from naap_ops.prisma import tracking
from naap_ops.prisma.tracking import State
from naap_ops.reverse.images import parked, unparking
from naap_ops.reverse.images.parked import Parked
from naap_ops.reverse.images.unparking import Back
from naap_ops.statuses import parked_line

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection


def awaited(every: Iterable[Parked], pending: Mapping[str, Iterable[str]]) -> tuple[Parked, ...]:
    """Those of the migrations that are ``pending``, by schema."""
    wanted = {(schema, name) for schema, names in pending.items() for name in names}
    return tuple(each for each in every if (each.schema, each.migration) in wanted)


def notes(expired: Sequence[Parked], stranded: Sequence[Parked]) -> Iterator[str]:
    """What is about to go, and what waits for somebody."""
    yield from (f"expired {each.expires_at:%Y-%m-%d}, and dropped by this deploy: {parked_line(each)}" for each in expired)
    yield from (f"still parked: {parked_line(each)}; `invoke reapply --migration {each.migration}`" for each in stranded)


def prune(info: ConnInfo, expired: Sequence[Parked]) -> None:
    """Drop what has expired, after that was said."""
    if expired:
        with connect(info, application_name="naap_ops deploy") as connection, connection.transaction():
            parked.drop(connection, expired)


def late(info: ConnInfo, schema: str, migrations: Iterable[str]) -> Back:
    """Bring back what is parked of migrations that are applied in ``schema``, each in a transaction of its own."""
    back = Back()
    with connect(info, application_name="naap_ops deploy") as connection:
        books = tracking.read(connection, schema)
        for name in migrations:
            if books.state(name) is State.APPLIED:
                with connection.transaction():
                    back.add(unparking.bring_back(connection, name, schema, fresh=False))
    return back


@dataclass
class Beside:
    """Both that is done in a migration's transaction: rows are kept, and parked ones come back. ``returning``: those of which
    something is parked, and whose script can be shared; ``back``: what came of it, by migration."""

    capturing: Capturing
    returning: frozenset[str]
    back: dict[str, Back] = field(default_factory=dict)

    def wanted(self, migration: str) -> bool:
        return migration in self.returning or self.capturing.wanted(migration)

    def before(self, connection: Connection, migration: str) -> None:
        """Raises what :meth:`Capturing.before` raises."""
        if self.capturing.wanted(migration):
            self.capturing.before(connection, migration)

    def after(self, connection: Connection, migration: str, attempt: str) -> None:
        """First what the migration itself has done is looked at, then the rows come."""
        if self.capturing.wanted(migration):
            self.capturing.after(connection, migration, attempt)
        if migration in self.returning:
            connection.execute(b"set constraints all immediate")
            self.back[migration] = unparking.bring_back(connection, migration, self.capturing.schema, fresh=True)
