"""Read the whole catalog: one query per kind, all of them sent at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from naap_ops.postgres.catalog import (
    column,
    constraint,
    default_privileges,
    domain,
    event_trigger,
    extension,
    index,
    other,
    policy,
    publication,
    routine,
    rule,
    schema,
    sequence,
    statistics,
    table,
    trigger,
    type,  # noqa: A004  # the catalog's word for it
    view,
)
from naap_ops.postgres.catalog.model import Catalog, Kind
from naap_ops.postgres.catalog.scope import narrowed

if TYPE_CHECKING:
    from psycopg import Connection

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        schema,
        extension,
        type,
        domain,
        sequence,
        table,
        column,
        constraint,
        index,
        view,
        routine,
        trigger,
        rule,
        policy,
        statistics,
        publication,
        event_trigger,
        default_privileges,
        other,
    )
}


def snapshot(connection: Connection, *, schema: str = "public", only: Collection[str] | None = None) -> Catalog:
    """Every object of the database as this session sees it, uncommitted changes included.

    ``schema``: unqualified names in what is read mean this one (Prisma's ``?schema=``); everything else is qualified. ``only``:
    of what lies in schemas, that of these. The session's search_path is put back. One exchange with the server, whatever the
    number of objects.
    """
    major = connection.info.server_version // 10_000
    rows = {}
    with connection.pipeline():
        looked = connection.execute(
            "select current_user::text, set_config('naap_ops.search_path', current_setting('search_path'), false),"
            " set_config('search_path', %s, false), set_config('jit', 'off', false)",
            (_quoted(schema),),
        )
        cursors = {
            name: connection.execute(narrowed(kind.query(major), only).encode(), prepare=only is None)
            for name, kind in KINDS.items()
        }
        connection.execute("select set_config('search_path', current_setting('naap_ops.search_path'), false)")
        for name, kind in KINDS.items():
            rows[name] = {row[0]: row for row in map(kind.row, cursors[name].fetchall())}
        who = looked.fetchone()
    return Catalog(major, schema, rows, user=who[0] if who else "")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
