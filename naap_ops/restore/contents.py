"""An archive's table of contents with the dependencies between its entries, and what of it belongs to a schema or a table.

``pg_restore --list --verbose`` prints under each entry the dump ids it depends on. What has no oid of its own (comments,
rights, the state of a sequence) is found by what it depends on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup import toc
from naap_ops.backup.engines.script import piped
from naap_ops.backup.manifest import TableFact
from naap_ops.backup.toc import Entry

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Toolset

_ENTRY = re.compile(r"(\d+); \d+ \d+ ")
_DEPENDS = re.compile(r";\s+depends on: ([\d ]+)")

_DEFAULT_ACL = 826
_PUBLICATIONS = (6104, 6106, 6237)

# Entries without an object of their own, which go with what they depend on first.
_ATTACHED = (
    "ACL ",
    "COMMENT ",
    "SECURITY LABEL ",
    "SEQUENCE OWNED BY ",
    "SEQUENCE SET ",
    "ROW SECURITY ",
    "TABLE ATTACH ",
    "INDEX ATTACH ",
    "STATISTICS DATA ",
)
_RIGHTS = ("ACL ", "DEFAULT ACL ")
_ROWS = ("TABLE DATA", "SEQUENCE SET")
# Kinds that pg_dump puts behind the rows (pg_dump.c, SECTION_POST_DATA).
_POST_DATA = (
    "CONSTRAINT ",
    "CHECK CONSTRAINT ",
    "FK CONSTRAINT ",
    "INDEX ",
    "INDEX ATTACH ",
    "STATISTICS ",
    "RULE ",
    "TRIGGER ",
    "EVENT TRIGGER ",
    "ROW SECURITY ",
    "POLICY ",
    "MATERIALIZED VIEW DATA ",
)


@dataclass(frozen=True)
class Contents:
    """Entries in the archive's order, and what each depends on, by dump id."""

    entries: Sequence[Entry]
    depends: dict[int, tuple[int, ...]]

    def of_schema(self, *, default_privileges: bool) -> list[Entry]:
        """What makes a schema anew, of contents limited to it. Publications stay as they are, default privileges on demand."""
        without = _PUBLICATIONS if default_privileges else (*_PUBLICATIONS, _DEFAULT_ACL)
        return [entry for entry in self.entries if entry.catalog not in without]

    def of_table(self, table: TableFact) -> list[Entry]:
        """What makes a table anew: itself, its rows, what the manifest says belongs to it, and what is attached to these.

        A partition is attached last: its parent is there with its indexes, and the partition's own must be found then.
        """
        oids = {(toc.PG_CLASS, table.oid), *(_pair(text) for text in table.objects)}
        own = {
            e.dump_id for e in self.entries if (e.catalog, e.oid) in oids or (e.oid == table.oid and e.describes("TABLE DATA"))
        }
        attached = {entry.dump_id for entry in self.attached_to(own)}
        chosen = [entry for entry in self.entries if entry.dump_id in own | attached]
        return sorted(chosen, key=lambda e: 2 if e.describes("INDEX ATTACH") else 1 if e.describes("TABLE ATTACH") else 0)

    def rows_for(self, structure: Iterable[Entry]) -> list[Entry]:
        """The rows that go into the tables and sequences of ``structure``, which comes from another archive: other dump ids."""
        made = list(structure)
        tables = {e.oid for e in made if e.describes("TABLE")}
        sequences = {e.text.replace("SEQUENCE", "SEQUENCE SET", 1) for e in made if e.describes("SEQUENCE")}
        return [
            e
            for e in self.entries
            if (e.describes("TABLE DATA") and e.oid in tables) or (e.describes("SEQUENCE SET") and e.text in sequences)
        ]

    def leaning_on(self, restored: Set[int]) -> list[Entry]:
        """Entries outside ``restored`` (dump ids) that need one of them, or one that does; objects of their own only."""
        reached = self.reached(restored, {entry.dump_id for entry in self.entries if entry.catalog})
        return [entry for entry in self.entries if entry.dump_id in reached]

    def reached(self, restored: Set[int], through: Set[int]) -> set[int]:
        """Those of ``through`` that need one of ``restored``, directly or through each other."""
        found: set[int] = set()
        while True:
            known = restored | found
            more = {e for e in through - known if not known.isdisjoint(self.depends.get(e, ()))}
            if not more:
                return found
            found |= more

    def attached_to(self, entries: Set[int]) -> list[Entry]:
        """Comments, rights and the like of these."""
        return [e for e in self.entries if e.catalog == 0 and e.text.startswith(_ATTACHED) and self._first(e) in entries]

    def _first(self, entry: Entry) -> int | None:
        return next(iter(self.depends.get(entry.dump_id, ())), None)


@dataclass(frozen=True)
class Stages:
    """Entries in the order in which they are carried out: structure, rows, then the rest with the rights last."""

    before: Sequence[Entry]
    rows: Sequence[Entry]
    after: Sequence[Entry]


def staged(entries: Iterable[Entry], rows: Sequence[Entry] = ()) -> Stages:
    """Split at the rows; rights go to the end, as pg_restore itself has them (pg_backup_archiver.c, "RESTORE_PASS_ACL").

    ``rows``: those of another archive, for structure that comes without. They go in front of what pg_dump calls post-data.
    """
    stages: tuple[list[Entry], list[Entry], list[Entry]] = ([], list(rows), [])
    stage = 0
    for entry in entries:
        if _is_rows(entry):
            stage = 1
            stages[1].append(entry)
        elif entry.text.startswith(_RIGHTS):
            stages[2].append(entry)
        else:
            stage = 2 if stage == 1 or (rows and entry.text.startswith(_POST_DATA)) else stage
            stages[stage].append(entry)
    return Stages(*stages)


def relations(stages: Stages) -> int:
    """How many tables, views, sequences and indexes the stages make; their TOAST tables are not in an archive."""
    entries = [*stages.before, *stages.after]
    return sum(entry.catalog == toc.PG_CLASS or entry.text.startswith("CONSTRAINT ") for entry in entries)


def _is_rows(entry: Entry) -> bool:
    return any(entry.describes(kind) for kind in _ROWS)


def _pair(text: str) -> tuple[int, int]:
    catalog, _, oid = text.partition(":")
    return int(catalog), int(oid)


def read(tools: Toolset, archive: Path, *words: str) -> Contents:
    """Have pg_restore list an archive. Raises CommandFailed.

    ``words`` are ``--verbose`` for the dependencies of all entries, or options that limit the list, e.g. ``--schema=name``; not
    both, as the verbose list is always whole (pg_backup_archiver.c, PrintTOCSummary).
    """
    from naap_ops.postgres.conninfo import ConnInfo

    nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
    arguments = ["--list", *words]
    if tools.remote:
        with piped(tools.command("pg_restore", arguments, nowhere), archive) as child:
            output = child.stdout.read()
            child.check()
    else:
        command = tools.command("pg_restore", [*arguments, str(archive)], nowhere)
        _, output, _ = process.run(command.argv, env=command.env)
    return parse(output.decode("utf-8", "surrogateescape"))


def parse(listing: str) -> Contents:
    """The contents from what pg_restore printed."""
    depends: dict[int, tuple[int, ...]] = {}
    current = 0
    for line in listing.split("\n"):
        if entry := _ENTRY.match(line):
            current = int(entry[1])
        elif on := _DEPENDS.fullmatch(line.rstrip()):
            depends[current] = tuple(map(int, on[1].split()))
    return Contents(toc.parse(listing), depends)
