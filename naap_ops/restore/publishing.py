"""The moment a loaded database takes the live one's place: the renames, and in their transaction who is what from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from naap_ops.postgres.databases import rename_swap
from naap_ops.restore import aside, marks
from naap_ops.restore.marks import Mark

if TYPE_CHECKING:
    from naap_ops.events import Events
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.databases import DatabaseProps, Session
    from naap_ops.postgres.session import Connection


def publish(
    session: Connection,
    info: ConnInfo,
    target: str,
    beside: str,
    *,
    backup: str,
    carried: DatabaseProps | None,
    replaces: bool,
    lock_timeout: float,
    events: Events,
    data: Mapping[str, Any] | None = None,
) -> tuple[str | None, float]:
    """Rename ``beside`` to ``target``, and what was live, if it ``replaces`` that, to a name of its own.

    Returns that name and the seconds of downtime. ``session`` holds the target's lock; ``carried`` has the comment and the
    template mark that the new one gets; ``data`` is kept in the old one's mark. Both accept connections afterwards. Raises
    what :func:`rename_swap` raises; then nothing is renamed.
    """
    previous = aside.free_name(session, target, "before") if replaces else None

    def told(connection: Connection) -> None:
        comment = carried.comment if carried else None
        aside.comment_on(connection, target, comment)
        if carried is not None and carried.is_template:
            aside.make_template(connection, target)
        aside.open_to_all(connection, target)
        if previous is not None:
            mark = Mark(marks.BEFORE, target, backup, comment, data=dict(data or {}))
            aside.comment_on(connection, previous, mark.text())
            aside.open_to_all(connection, previous)

    def waiting(sessions: Sequence[Session]) -> None:
        events.emit("restore.step", name="wait", text=f"waiting for {'; '.join(map(str, sessions))}")

    downtime = rename_swap(
        info,
        live=target if previous else None,
        aside=beside,
        before=previous or target,
        lock_timeout=lock_timeout,
        on_waiting=waiting,
        also=told,
    )
    return previous, downtime if previous else 0.0
