"""Event triggers: they can veto or alter a reverse itself."""

from __future__ import annotations

from typing import NamedTuple

from naap_ops.postgres.catalog.model import Kind
from naap_ops.postgres.catalog.scope import comment


class EventTrigger(NamedTuple):
    """``tags``: the command tags that it is limited to, empty for all. ``enabled``: O, D, R or A."""

    key: int
    name: str
    owner: str
    event: str
    function: str
    enabled: str
    tags: list[str]
    comment: str | None


def _query(_major: int) -> str:
    return f"""
    select e.oid::bigint, e.evtname::text, pg_get_userbyid(e.evtowner)::text, e.evtevent::text, e.evtfoid::regproc::text,
      e.evtenabled::text, coalesce(e.evttags, '{{}}'), {comment("pg_event_trigger", "e.oid")}
    from pg_catalog.pg_event_trigger e
    where not exists (select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_event_trigger'::regclass and d.objid = e.oid and d.deptype = 'e')"""


KIND = Kind(
    "event_trigger",
    EventTrigger._make,
    _query,
    identity=("name",),
    own=("name", "owner", "enabled", "comment"),
)
