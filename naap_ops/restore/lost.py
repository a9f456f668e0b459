"""What DROP ... CASCADE took along outside of what is restored: the backup has it, the live database has not.

Foreign keys of other tables that pointed at a table which is gone are put back with it. Everything else that leaned on what is
restored, and is missing, is named with the command that brings it back. So with what stands inside the CREATE TABLE of a table
that stayed: its defaults are set again, its columns and checks are named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, LiteralString

from naap_ops.backup.toc import PG_CLASS, Entry, printable
from naap_ops.restore import inline, keys
from naap_ops.restore.archive import Archive
from naap_ops.restore.contents import Contents, Stages
from naap_ops.restore.dependants import ForeignKey
from naap_ops.restore.inline import Item, plain

if TYPE_CHECKING:
    from naap_ops.postgres.conninfo import ConnInfo
    from naap_ops.postgres.session import Connection

_HEADER = re.compile(r"^-- Name: (.*); Type: (.*); Schema: (.*); Owner: (.*)$", re.MULTILINE)
_NAME = r'(?:"(?:[^"]|"")*"|[^\s".,();]+)'
_NAMES = rf"{_NAME}(?:[, ]+{_NAME})*"
_KEY = re.compile(
    rf"^ALTER TABLE (?:ONLY )?({_NAME})\.({_NAME})\s+ADD CONSTRAINT ({_NAME}) "
    rf"(FOREIGN KEY \(({_NAMES})\) REFERENCES ({_NAME})\.({_NAME})\(({_NAMES})\)[^;]*);$",
    re.MULTILINE,
)
_COMMENT = re.compile(
    rf"^COMMENT ON CONSTRAINT ({_NAME}) ON ({_NAME})\.({_NAME}) IS ('(?:[^']|'')*');$",
    re.MULTILINE,
)
_MATCH = re.compile(r"\) MATCH (FULL|PARTIAL)")

# Kind (pg_dump's, of the same sort), schema, and the words by which pg_dump names it. search_path is empty.
_THERE: LiteralString = """
select 'relation', n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
union all select 'type', n.nspname, t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace
union all select 'routine', n.nspname, p.proname || '('
  || array_to_string(array(select format_type(t, null) from unnest(p.proargtypes) with ordinality u(t, i) order by i), ', ')
  || ')' from pg_proc p join pg_namespace n on n.oid = p.pronamespace
union all select 'trigger', n.nspname, c.relname || ' ' || t.tgname
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
union all select 'policy', n.nspname, c.relname || ' ' || p.polname
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
union all select 'rule', n.nspname, c.relname || ' ' || r.rulename
  from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
union all select 'constraint', n.nspname, c.relname || ' ' || k.conname
  from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
union all select 'default', n.nspname, c.relname || ' ' || a.attname
  from pg_attrdef d join pg_attribute a on (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
  join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
union all select 'statistics', n.nspname, s.stxname from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace
union all select 'member', n.nspname, p.pubname || ' ' || c.relname
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
  join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
union all select 'schema member', '-', p.pubname || ' ' || n.nspname
  from pg_publication_namespace m join pg_publication p on p.oid = m.pnpubid join pg_namespace n on n.oid = m.pnnspid
"""

# Kinds that are looked for; of the others (casts, operators ...) the text says too little to be sure.
_KINDS = {
    **dict.fromkeys(("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE", "INDEX"), "relation"),
    **dict.fromkeys(("TYPE", "DOMAIN"), "type"),
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "AGGREGATE"), "routine"),
    **dict.fromkeys(("FK CONSTRAINT", "CONSTRAINT", "CHECK CONSTRAINT"), "constraint"),
    "TRIGGER": "trigger",
    "POLICY": "policy",
    "RULE": "rule",
    "DEFAULT": "default",
    "STATISTICS": "statistics",
    "PUBLICATION TABLE": "member",
    "PUBLICATION TABLES IN SCHEMA": "schema member",
}

_TABLES: LiteralString = """
select n.nspname, c.relname, array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p')
"""


@dataclass(frozen=True)
class _Named:
    """An entry and its words, apart."""

    entry: Entry
    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {'' if self.schema == '-' else self.schema + '.'}{self.name}"


@dataclass(frozen=True)
class Lost:
    """``keys`` and ``defaults`` are put back; ``others`` are named, with the archive they are in and their dump ids there.

    ``inside``: what was inside of tables, and is named too.
    """

    keys: Sequence[ForeignKey] = ()
    others: Sequence[_Named] = ()
    defaults: Sequence[Item] = ()
    inside: Sequence[Item] = ()
    archive: str = ""
    dump_ids: Sequence[int] = field(default=())

    def notes(self, info: ConnInfo) -> list[str]:
        """What people must know, with what to type."""
        notes = [item.note for item in self.inside]
        if not self.others:
            return notes
        ids = " ".join(map(str, self.dump_ids))
        words = f"--dbname={shlex.quote(info.dbname or '')} {shlex.quote(self.archive)}"
        return [
            *notes,
            f"the backup has this, which needs what is restored; it is missing and does not come back by itself:"
            f" {', '.join(map(str, self.others))}. To bring it back:"
            f" printf '%s;\\n' {ids} | pg_restore --use-list=/dev/stdin {words}",
        ]

    def planned(self) -> list[str]:
        """What :func:`put_back` will do, for the plan."""
        return [
            *(f"put foreign key {key} back, which is gone, and check it" for key in self.keys),
            *(f"put {default} back, which is gone" for default in self.defaults),
        ]


def find(connection: Connection, archive: Archive, stages: Stages) -> Lost:
    """Look for it, before anything is changed. The session's search_path must be empty."""
    found = archive.everything()
    restored = {entry.dump_id for entry in (*stages.before, *stages.after)}  # rows may be another archive's: other dump ids
    candidates = found.leaning_on(restored)
    if not candidates:
        return Lost()
    attached = found.attached_to({entry.dump_id for entry in candidates})
    text = archive.printed([*candidates, *attached])
    missing = _missing(connection, _named(candidates, text))
    gone = found.reached(restored, {named.entry.dump_id for named in missing})
    missing = [named for named in missing if named.entry.dump_id in gone]
    lost_too = {named.entry.dump_id for named in missing}
    stayed = [entry for entry in candidates if entry.catalog == PG_CLASS and entry.dump_id not in lost_too]
    anew = _made_anew(connection, archive, found, stages, stayed)
    items = inline.missing(connection, text, anew | {_bare(named) for named in missing})
    defaults = [item for item in items if item.kind == "default" and item.mentions(anew)]
    inside = [item for item in items if item not in defaults]
    if not missing:
        return Lost(defaults=defaults, inside=inside)
    tables = {(schema, name): set(columns) for schema, name, columns in connection.execute(_TABLES).fetchall()}
    fitting = {(printable(key.schema), printable(f"{key.table} {key.name}")): key for key in _keys(text) if _fits(key, tables)}
    returning = [named for named in missing if named.kind == "FK CONSTRAINT" and (named.schema, named.name) in fitting]
    back = [fitting[named.schema, named.name] for named in returning]
    others = [named for named in missing if named not in returning]
    ids = {named.entry.dump_id for named in others}
    dump_ids = sorted(ids | {entry.dump_id for entry in found.attached_to(ids)})
    return Lost(back, others, defaults, inside, archive.address, dump_ids)


def _made_anew(connection: Connection, archive: Archive, found: Contents, stages: Stages, tables: Iterable[Entry]) -> set[str]:
    """The names of what ``tables`` need and is restored, as far as it is not there now."""
    needed = {other for table in tables for other in found.depends.get(table.dump_id, ())}
    wanted = {entry.dump_id for entry in (*stages.before, *stages.after)} & needed
    entries = [entry for entry in found.entries if entry.dump_id in wanted]
    return {_bare(named) for named in _missing(connection, _named(entries, archive.printed(entries)))}


def _bare(named: _Named) -> str:
    """``schema.name``, without a routine's arguments."""
    return f"{named.schema}.{named.name.partition('(')[0] if _KINDS[named.kind] == 'routine' else named.name}"


def put_back(connection: Connection, lost: Lost) -> None:
    """Put the keys back, checked. Raises Refused when rows do not fit."""
    for key in lost.keys:
        keys.add(connection, key)


def set_defaults(connection: Connection, lost: Lost) -> list[str]:
    """Put the defaults back, last of all. What people must know."""
    return inline.put_back(connection, lost.defaults)


def _fits(key: ForeignKey, tables: dict[tuple[str, str], set[str]]) -> bool:
    """The key went with the table it pointed at, and its own table can take it.

    Where that table is still there, somebody has dropped the key without the table, and may have meant it.
    """
    own = tables.get((key.schema, key.table))
    return own is not None and set(key.columns) <= own and key.refers_to not in tables


def _named(entries: Iterable[Entry], text: str) -> list[_Named]:
    """The words of a list's line cannot be told apart, those of the comment over the printed SQL can."""
    words = {f"{kind} {schema} {name} {owner}": (kind, schema, name) for name, kind, schema, owner in _HEADER.findall(text)}
    return [_Named(entry, *words[entry.text]) for entry in entries if entry.text in words]


def _missing(connection: Connection, named: Iterable[_Named]) -> list[_Named]:
    there = {(kind, printable(schema), printable(name)) for kind, schema, name in connection.execute(_THERE).fetchall()}
    return [n for n in named if n.kind in _KINDS and (_KINDS[n.kind], n.schema, n.name) not in there]


def _keys(text: str) -> list[ForeignKey]:
    comments = {tuple(map(plain, match[:3])): match[3][1:-1].replace("''", "'") for match in _COMMENT.findall(text)}
    found = []
    for *own, definition, columns, to_schema, to_table, referred in _KEY.findall(text):
        schema, table, name = map(plain, own)
        match = _MATCH.search(definition)
        key = ForeignKey(
            oid=0,
            name=name,
            schema=schema,
            table=table,
            refers_to=(plain(to_schema), plain(to_table)),
            definition=definition,
            comment=comments.get((name, schema, table)),
            match=match[1][0].lower() if match else "s",
            columns=_columns(columns),
            referred=_columns(referred),
        )
        found.append(key)
    return found


def _columns(text: str) -> tuple[str, ...]:
    """PostgreSQL 18 has PERIOD before a column of ranges."""
    return tuple(plain(name) for name in re.findall(_NAME, text) if name != "PERIOD")
