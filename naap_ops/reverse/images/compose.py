"""A reverse with what images hold: pieces that bring rows back, each at its place among the pieces that were there, and losses
that say where what was lost comes from.

A dropped column and a dropped table are filled where they are made again. Everything else comes back where the first statement
that touched the table is undone: the database is then in the state before it, in which nothing of the table was lost yet. Rows
that refer to others come back no sooner than those (``beginning.py``).
``late``: at the very end instead, for values that nothing but the state before the migration can hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import fill, inserted
from naap_ops.reverse.families import constraint, insert, trigger
from naap_ops.reverse.images import referring, staging, statements
from naap_ops.reverse.images.beginning import Begin, beginnings
from naap_ops.reverse.images.keeps import Touch, key_of, touches
from naap_ops.reverse.images.model import Image, Name
from naap_ops.reverse.images.orphans import Again, concerns, put_right
from naap_ops.reverse.images.retyped import retyped
from naap_ops.reverse.images.staged import Staged
from naap_ops.reverse.images.statements import Place
from naap_ops.reverse.images.uniqueness import Keys
from naap_ops.reverse.model import Check, Loss, Piece, Plan, Reversal, Step
from naap_ops.reverse.ranks import Rank
from naap_ops.reverse.references import references
from naap_ops.reverse.render import Sql, quoted

_FIRST: Final = 0
_LAST: Final = 10_000
_BEFORE_PLACEHOLDERS: Final = -100_000
_AFTER_PLACEHOLDERS: Final = 100_000
_BEFORE_KEYS: Final = Rank.CREATE_FOREIGN_KEY - 5
_ROW: Final = "ROW EXCLUSIVE"
_TABLE: Final = "SHARE ROW EXCLUSIVE"


def composed(
    plan: Plan,
    steps: Sequence[Step],
    first: Catalog,
    last: Catalog,
    images: Iterable[Image],
    sql: Sql,
    *,
    late: bool = False,
    force: bool = False,
    parked: Collection[Name] = (),
) -> Plan | None:
    """The plan with what the images hold; None where nothing of them fits, or the reverse is not one transaction.

    ``first`` and ``last``: the states before and after the migration. ``force``: newer values are overwritten. ``parked``:
    tables the rows of which that a query put there are parked.
    """
    if not plan.reversals or any(not piece.transactional for piece in plan.pieces):
        return None
    work = _Work(plan, {step.statement.index: step for step in steps}, first, last, sql, late, force, parked)
    lost = touches(plan, steps, first)
    keys = {key: image for image in images if (key := key_of(first, image.keep.relation)) in lost and work.fits(key, image)}
    begins = beginnings({key: lost[key] for key in keys}, work.steps, first, late=late)
    work.begins = begins
    for key, image in keys.items():
        work.one(image, first.rows["table"][key], lost[key], begins[key])
    return work.result() if work.covered else None


@dataclass
class _Work:
    plan: Plan
    steps: Mapping[int, Step]
    first: Catalog
    last: Catalog
    sql: Sql
    late: bool
    force: bool
    parked: Collection[Name]
    covered: dict[int, Image] = field(default_factory=dict)
    opening: list[tuple[str, str, str]] = field(default_factory=list)
    extra: dict[int, list[Piece]] = field(default_factory=dict)
    rows: dict[int, list[Place]] = field(default_factory=dict)
    placeholders: dict[tuple[int, int], str] = field(default_factory=dict)
    checks: dict[int, dict[str, str]] = field(default_factory=dict)
    instead: dict[int, dict[str, str]] = field(default_factory=dict)
    answered: dict[int, set[str]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    queried: set[int] = field(default_factory=set)
    """Statements whose rows are told by the image, where else their query would be asked again."""
    staged: dict[str, Staged] = field(default_factory=dict)
    named: dict[tuple[int, str, int], Any] = field(default_factory=dict)
    """By statement, table and number the columns that only get their names, and by which name they are there."""
    placing_rows: bool = False
    begins: Mapping[int, Begin] = field(default_factory=dict)

    # --- one table ----------------------------------------------------------------------------------------------------

    def fits(self, key: int, image: Image) -> bool:
        """The image has columns of this very table."""
        names = {row.name for row in self.first.children("column", "table_key", key)}
        return {column.name for column in (*image.keep.key, *image.keep.columns)} <= names

    def one(self, image: Image, table: Any, touched: list[Touch], begins: Begin) -> None:
        key = table.key
        self.covered[key] = image
        columns = {row.name: row for row in self.first.children("column", "table_key", key)}
        kept = frozenset(columns[column.name].key for column in image.keep.columns)
        for index, step in self.steps.items():
            if key in step.dropped and not begins.put_off:
                place = self._place(image, key, step.before, columns)
                self._add(index, step, place, [place.inserted_counted(everything=True)])
            elif gone := step.dropped_columns & kept & {row.key for row in step.before.children("column", "table_key", key)}:
                self._columns(index, step, self._place(image, key, step.before, columns), gone)
        again = frozenset(
            column
            for index, step in self.steps.items()
            for column in step.dropped_columns & kept
            if any(touch.statement < index and (touch.columns is None or column in touch.columns) for touch in touched)
        )
        self._merge(image, key, begins, again, columns)
        self._giving_way(image, key, begins, columns)

    def _place(self, image: Image, key: int, catalog: Catalog, columns: dict[str, Any]) -> Place:
        return Place(image, catalog.rows["table"][key], catalog, columns, self.sql)

    def _columns(self, index: int, step: Step, place: Place, gone: frozenset[int]) -> None:
        """Dropped columns are filled before their placeholders, which are for rows written since."""
        if not place.joinable:
            return
        beforehand = self._beforehand(index, place, gone)
        texts = [text for column in beforehand for text in staging.completing(place, column)]
        texts += place.fills(gone - {column.key for column in beforehand})
        if not texts:
            return
        self._add(index, step, place, texts)
        for row in step.before.children("column", "table_key", place.table.key):
            if row.key in gone:
                self.placeholders[index, row.number] = f"{self.sql.name(place.table)} {quoted(row.name)}"
                if fill.placeholder(step, row) is None:
                    self.checks.setdefault(index, {})[self.sql("column/any_row", column=row)] = place.not_in_image()

    def _beforehand(self, index: int, place: Place, gone: frozenset[int]) -> list[Any]:
        """Those of them that are filled before all this, and here only get their names."""
        staged = staging.staged(place, gone, self.last) if place.image.staged else None
        if staged is None:
            return []
        known = self.staged.get(staged.image)
        self.staged[staged.image] = staged if known is None else known.joined(staged)
        columns = staging.fit(place, gone)
        relation = self.sql.name(place.table)
        for column, each in zip(columns, staged.columns, strict=True):
            self.named[index, relation, column.number] = column, each.name
            text = f"DROP INDEX IF EXISTS {staged.index(each)}"
            self.extra.setdefault(index, []).append(Piece(Rank.FILL_COLUMN, _AFTER_PLACEHOLDERS, text, relation=relation))
        return columns

    def _merge(self, image: Image, key: int, begins: Begin, again: frozenset[int], columns: dict[str, Any]) -> None:
        """Rows and values of a table that is still there; and once more those of columns that were touched, then dropped."""
        begin = begins.statement
        step = self.steps[begin]
        place = self._place(image, key, step.before, columns)
        if again and place.joinable and (fills := place.fills(again)):
            self._add(begin, step, place, fills)
        if self.late:
            place = self._place(image, key, self.first, columns)
        if begins.put_off:
            self.rows.setdefault(begin, []).append(replace(place, put_off=True))
        if not image.keep.compared:
            return
        after = self.last.rows["table"][key]
        relation = self.sql.name(after)
        if image.keep.key:
            parked = image.tells_queried and image.keep.after in self.parked
            texts = statements.note(image, relation, force=self.force, parked=parked)
            self.opening += [(text, relation, _TABLE if text.startswith("LOCK") else "") for text in texts]
        else:
            self.opening.append((f"LOCK TABLE {relation} IN SHARE ROW EXCLUSIVE MODE", relation, _TABLE))
        self.rows.setdefault(begin, []).append(place)

    def _giving_way(self, image: Image, key: int, begins: Begin, columns: dict[str, Any]) -> None:
        """Values of types that their columns had not before, where they are put back later."""
        if not image.keep.compared:
            return
        until = min(self.steps) if self.late else begins.statement
        between = [step.before for index, step in self.steps.items() if index >= until]
        everywhere = (self.first, self.last, *between)
        referred = any(row.referenced_key == key for each in everywhere for row in each.rows["constraint"].values())
        for index, step in self.steps.items():
            if index >= until and key in step.after.rows["table"] and key in step.before.rows["table"]:
                place = self._place(image, key, step.after, columns)
                states = [each.before for at, each in self.steps.items() if until <= at <= index]
                for each in retyped(place, step, states, referred=referred):
                    self.instead.setdefault(index, {})[each.text] = each.instead
                    self.answered.setdefault(index, set()).add(each.answered)
                    found, relation = self.extra.setdefault(index, []), self.sql.name(place.table)
                    found += [
                        Piece(_FIRST, len(found) + at, text, lock="", relation=relation) for at, text in enumerate(each.first)
                    ]
                    found += [Piece(Rank.AFTER_TYPE, at, text, lock="", relation="") for at, text in enumerate(each.last)]

    def _orphans(self, index: int, step: Step) -> None:
        """Right before foreign keys come back: what came out of images, and refers to rows that somebody has taken since."""
        coming = {row.key: row for row in step.before.rows["constraint"].values() if row.type == "f"}
        coming = {key: row for key, row in coming.items() if key not in step.after.rows["constraint"]}
        again = {key: found for key in self.covered if coming and (found := self._again(index, step, key)) is not None}
        links = list(references(step.before, step.before))
        pieces = list(put_right(self.sql, again, links, coming))
        if not pieces:
            return
        tables = [step.before.rows["table"][key] for key in again]
        switches = [self._triggers(step, step.before, table) for table in tables]
        texts = [
            *((off, self.sql.name(table), _TABLE) for table, (each, _) in zip(tables, switches, strict=True) for off in each),
            *((text, self.sql.name(step.before.rows["table"][key]), _ROW) for key, text in pieces),
            *((on, self.sql.name(table), _TABLE) for table, (_, each) in zip(tables, switches, strict=True) for on in each),
        ]
        if any(row.deferrable for row in step.before.rows["constraint"].values()):
            texts.append(("SET CONSTRAINTS ALL IMMEDIATE", "", ""))
        extra = self.extra.setdefault(index, [])
        extra += [Piece(_BEFORE_KEYS, at, text, lock=lock, relation=on) for at, (text, on, lock) in enumerate(texts)]
        for each in links:
            if each.key in coming and concerns(again, each):
                checks = constraint.orphans(step, self.sql, coming[each.key])
                self.answered.setdefault(index, set()).update(check.query for check in checks)

    def _again(self, index: int, step: Step, key: int) -> Again | None:
        """What of the table has come out of its image before the keys of this step come back."""
        table, image = step.before.rows["table"].get(key), self.covered[key]
        if table is None:
            return None
        columns = {row.name: row for row in self.first.children("column", "table_key", key)}
        place = self._place(image, key, step.before, columns)
        own = place.key if place.joinable else ()
        made = next((at for at, each in self.steps.items() if key in each.dropped), None)
        if made is not None:
            begins = self.begins[key]
            there = made if not begins.put_off else begins.statement
            return Again(image, own, None) if there >= index and not (begins.put_off and self.late) else None
        kept = frozenset(columns[column.name].key for column in image.keep.columns)
        gone = frozenset().union(*(each.dropped_columns for at, each in self.steps.items() if at >= index)) & kept
        return Again(image, own, gone) if gone and own else None

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _add(self, index: int, step: Step, place: Place, texts: Iterable[str]) -> None:
        """Pieces before the placeholders, with the user's triggers of that table off meanwhile."""
        off, on = self._triggers(step, place.catalog, place.table)
        relation = self.sql.name(place.table)
        for text in texts:
            for sql, lock in ((each, _TABLE) for each in off):
                self._piece(index, sql, relation, lock)
            self._piece(index, text, relation, _ROW)
            for sql, lock in ((each, _TABLE) for each in on):
                self._piece(index, sql, relation, lock)
        if texts and any(row.deferrable for row in step.before.rows["constraint"].values()):
            # what is still to be checked would stand in the way of an ALTER TABLE
            self._piece(index, "SET CONSTRAINTS ALL IMMEDIATE", "", "")

    def _piece(self, index: int, text: str, relation: str, lock: str) -> None:
        found = self.extra.setdefault(index, [])
        rank = _LAST if self._late_now else Rank.FILL_COLUMN
        found.append(Piece(rank, _BEFORE_PLACEHOLDERS + len(found), text, lock=lock, relation=relation))

    @property
    def _late_now(self) -> bool:
        return self.late and self.placing_rows

    def _triggers(self, step: Step, catalog: Catalog, table: Any) -> tuple[list[str], list[str]]:
        """What switches off the triggers that are there at this moment, and what switches them on as they were."""
        there = [
            row
            for row in catalog.children("trigger", "table_key", table.key)
            if row.enabled != "D" and not row.parent_key and (self._late_now or row.key in step.after.rows["trigger"])
        ]
        off = [trigger.switch(self.sql, row._replace(enabled="D")).sql for row in there]
        return off, [trigger.switch(self.sql, row).sql for row in there]

    def _rows(self) -> None:
        """Rows that went, parents first; then values; then rows that came go, children first."""
        places: dict[int, list[Place]] = {}
        target = min(self.steps)
        for index, found in self.rows.items():
            places.setdefault(target if self.late else index, []).extend(found)
        self.placing_rows = True
        for index, found in places.items():
            step = self.steps[index]
            catalog = self.first if self.late else step.before
            groups = _parents_first(found, catalog)
            for group in groups:
                self._inserted(index, step, group)
            links = list(references(self.first, catalog))
            for place in found:
                if place.compared and place.joinable and (text := place.updated()):
                    fits = list(referring.values_fit(place, links))
                    # a value that stays after all may be one that another row would have got
                    free = Keys(place, self.first, links).free(rows=False) if fits else None
                    self._add(index, step, place, [*fits, *([free] if free else []), text])
            for group in reversed(groups):
                self._marked(index, group, referring.nobody_refers([each for each in group if each.image.keep.whole], links))
                for place in group:
                    if place.image.keep.whole and place.image.keep.compared and place.compared and place.joinable:
                        self._add(index, step, place, [place.taken()])
                        self.taken.add(place.table.key)

    def _marked(self, index: int, group: Sequence[Place], text: str | None) -> None:
        if text is not None:
            self._piece(index, text, self.sql.name(group[0].table), "")

    def _inserted(self, index: int, step: Step, group: Sequence[Place]) -> None:
        wanted = [place for place in group if place.image.keep.whole and (place.joinable or not place.compared)]
        links = list(references(self.first, group[0].catalog))
        for place in group:
            if place.put_off and place.compared:
                self._marked(index, [place], place.noted_all())
            elif place.compared and place.joinable:
                keys = Keys(place, self.first, links)
                self._marked(index, [place], keys.free(rows=place.image.keep.whole))
                self._add(index, step, place, list(keys.aside(rows=place.image.keep.whole)))
        there = step.after.rows["constraint"]  # of foreign keys that come back later, rows are looked at then
        later = {place.table.key for place in wanted if place.put_off}
        held = [each for each in links if each.child.key not in later or each.key in there]
        self._marked(index, group, referring.parents_there(wanted, held))
        self._all_inserted(index, step, wanted)
        for place in wanted:
            for text in place.carried_on():
                self._piece(index, text, self.sql.name(place.table), "")

    def _all_inserted(self, index: int, step: Step, wanted: Sequence[Place]) -> None:
        if len(wanted) < 2:
            for place in wanted:
                self._add(index, step, place, [place.inserted_counted(everything=not place.compared)])
            return
        # tables that refer to one another: one statement, at whose end the foreign keys are checked
        parts = [
            f"part{at} AS ({place.inserted(everything=not place.compared)} RETURNING 1)" for at, place in enumerate(wanted)
        ]
        counts = [f"SELECT {statements.label(place.image)}, count(*) FROM part{at}" for at, place in enumerate(wanted)]
        text = f"WITH {', '.join(parts)} INSERT INTO {statements.RESTORED} {' UNION ALL '.join(counts)}"
        self._add(index, step, wanted[0], [text])

    def _by_query(self, index: int, step: Step) -> None:
        """Its query may give other rows by now, or rows that somebody has written since: the image knows which they were."""
        if step.statement.tag == "INSERT":
            rows = inserted.rows_of(step)
            told = rows.table is not None and rows.table.key in self.taken and self.covered[rows.table.key].source == "capture"
            if rows.source and rows.deletable and told:
                self.queried.add(index)
                self.answered.setdefault(index, set()).update(check.query for check in insert.checks(step, self.sql))

    # --- the whole ----------------------------------------------------------------------------------------------------

    def result(self) -> Plan:
        self._rows()
        for index, step in self.steps.items():
            self._orphans(index, step)
            self._by_query(index, step)
        reversals = [self._reversal(reversal) for reversal in self.plan.reversals]
        known = [f"ANALYZE {image.name}" for image in self.covered.values()]
        opening = [(text, "", "") for text in (*statements.OPENING, *known)] + self.opening
        pieces = [Piece(_FIRST, at, text, lock=lock, relation=on) for at, (text, on, lock) in enumerate(opening)]
        reversals[0] = replace(reversals[0], pieces=(*pieces, *reversals[0].pieces))
        return replace(self.plan, reversals=tuple(reversals), staged=tuple(self.staged.values()))

    def _reversal(self, reversal: Reversal) -> Reversal:
        index, step = reversal.statement.index, self.steps[reversal.statement.index]
        pieces = [
            self._only_nulls(index, one)
            for piece in map(partial(self._instead, index), reversal.pieces)
            if not (index in self.queried and piece.rank == Rank.ROWS)
            for each in self._by_name(index, piece)
            for one in self._quietly(step, each)
        ]
        changed = self.checks.get(index, {})
        return replace(
            reversal,
            pieces=tuple(sorted([*pieces, *self.extra.get(index, ())])),
            losses=tuple(self._loss(step, loss) for loss in reversal.losses),
            checks=tuple(
                self._check(check, changed.get(check.query))
                for check in reversal.checks
                if check.query not in self.answered.get(index, ())
            ),
        )

    def _instead(self, index: int, piece: Piece) -> Piece:
        return replace(piece, sql=self.instead.get(index, {}).get(piece.sql, piece.sql))

    def _quietly(self, step: Step, piece: Piece) -> Iterator[Piece]:
        """Rows that an INSERT put there go without its triggers: what they did comes back from an image, or is said to stay."""
        table = next((row for row in step.before.rows["table"].values() if self.sql.name(row) == piece.relation), None)
        if piece.rank == Rank.ROWS and table is not None:
            off, on = self._triggers(step, step.before, table)
            yield from (replace(piece, order=piece.order - 1, sql=sql, lock=_TABLE) for sql in off)
            yield piece
            yield from (replace(piece, order=piece.order + 1, sql=sql, lock=_TABLE) for sql in on)
        else:
            yield piece

    def _by_name(self, index: int, piece: Piece) -> Iterator[Piece]:
        """A column that is there already gets its name instead of being added."""
        known = self.named.get((index, piece.relation, piece.order)) if piece.rank == Rank.CREATE_COLUMN else None
        if known is None:
            yield piece
        else:
            yield from staging.naming(self.sql, *known)

    def _only_nulls(self, index: int, piece: Piece) -> Piece:
        """A placeholder is for rows that have no value yet."""
        target = self.placeholders.get((index, piece.order)) if piece.rank == Rank.FILL_COLUMN else None
        if target is None or not target.startswith(f"{piece.relation} "):
            return piece
        return replace(piece, sql=f"{piece.sql} WHERE {target.removeprefix(f'{piece.relation} ')} IS NULL")

    def _check(self, check: Check, query: str | None) -> Check:
        return (
            check if query is None else Check(query, check.reason.replace("holds rows, and", "holds rows written since, and"))
        )

    def _loss(self, step: Step, loss: Loss) -> Loss:
        queried = step.statement.index in self.queried
        if (loss.since and not queried) or loss.relation is None or loss.kind not in ("rows", "values", "residue"):
            return loss
        key = key_of(step.before, loss.relation)
        image = self.covered.get(key) if key is not None else None
        if image is None or not self._holds(step, image, key, loss):
            return loss
        reason = f"as it was before the migration, from the {image.source}"
        return replace(loss, source=image.source, rows=image.rows, bytes=image.bytes, reason=reason, since=False)

    def _holds(self, step: Step, image: Image, key: int | None, loss: Loss) -> bool:
        keep = image.keep
        if loss.column is None:
            return keep.whole
        row = next(
            (row for row in step.before.rows["column"].values() if (row.table_key, row.name) == (key, loss.column)), None
        )
        was = self.first.rows["column"].get(row.key) if row is not None else None
        return was is not None and (bool(keep.key) or keep.after is None) and was.name in {each.name for each in keep.columns}


def _parents_first(places: Sequence[Place], catalog: Catalog) -> list[list[Place]]:
    """Groups of places, those that others refer to first; those that refer to one another are one group."""
    by_key = {place.table.key: place for place in places}
    needs: dict[int, set[int]] = {key: set() for key in by_key}
    for row in catalog.rows["constraint"].values():
        if row.type == "f" and row.table_key in by_key and row.referenced_key in by_key:
            needs[row.table_key].add(row.referenced_key)
    reach = {key: _reached(key, needs) for key in needs}
    groups: list[list[int]] = []
    for key in needs:
        circle = next((group for group in groups if key in reach[group[0]] and group[0] in reach[key]), None)
        if circle is None:
            groups.append([key])
        else:
            circle.append(key)
    groups.sort(key=lambda group: len(reach[group[0]] | {group[0]}))
    return [[by_key[key] for key in group] for group in groups]


def _reached(key: int, needs: Mapping[int, set[int]]) -> set[int]:
    found: set[int] = set()
    todo = list(needs[key])
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += needs[one]
    return found


def covered(plan: Plan) -> Iterator[tuple[Name, Loss]]:
    """The losses that come back, by relation."""
    for reversal in plan.reversals:
        for loss in reversal.losses:
            if loss.comes_back and loss.relation is not None:
                yield loss.relation, loss
