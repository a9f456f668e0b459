"""What was written since, and refers to rows, or is referred to: neither is lost, nor does it stop the reverse.

A row that the migration put there stays where somebody refers to it since. A row, or a value, whose parent somebody has taken
away since does not come back. Either is a conflict. All of it is marked in what was noted, before anything is put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from naap_ops.reverse.images.statements import CONFLICTS, Place, label, noted
from naap_ops.reverse.references import Reference
from naap_ops.reverse.render import literal, quoted

Places = Mapping[int, Place]
"""Places of the tables that are put back by the same statement, by the key of the table."""


def parents_there(group: Sequence[Place], references: Sequence[Reference]) -> str | None:
    """Rows whose parents are neither there nor come back with them are not added."""
    places = {place.table.key: place for place in group if place.compared and place.joinable}
    rounds = []
    for place in places.values():
        lacking = [_lacking(place, each, places) for each in references if each.child.key == place.table.key]
        missing = " OR ".join(each for each in lacking if each)
        if missing:
            rounds.append(unmark(place, "add", f"FROM {place.image.name} i WHERE w.add AND {same(place)} AND ({missing})"))
    return until_none(rounds)


def nobody_refers(group: Sequence[Place], references: Sequence[Reference]) -> str | None:
    """Rows that the migration put there, and others refer to that it has not put there, are not taken."""
    places = {place.table.key: place for place in group if place.compared and place.joinable}
    rounds = []
    for place in places.values():
        referred = " OR ".join(_referred(place, each, places) for each in references if each.parent.key == place.table.key)
        if referred:
            table = place.sql.name(place.table)
            rounds.append(
                unmark(
                    place,
                    "take",
                    f"FROM {place.image.name} i, {table} t WHERE w.take AND {same(place)} AND {place.join} AND ({referred})",
                )
            )
    return until_none(rounds)


def values_fit(place: Place, references: Sequence[Reference]) -> Iterator[str]:
    """Values that refer to a parent which is not there are not put back."""
    for each in references:
        own = {row.key for row in each.columns}
        marks = {f"c{at}": kept.name for at, kept, row in place.columns() if row.key in own and kept.after is not None}
        missing = _lacking(place, each, {}) if each.child.key == place.table.key and marks else ""
        if missing:
            some = " OR ".join(f"w.{mark}" for mark in marks)
            names = ", ".join(f"CASE WHEN w.{mark} THEN {literal(name)} END" for mark, name in marks.items())
            keys = ", ".join(f"w.k{at}" for at, _ in enumerate(place.image.keep.key, 1))
            source = f"{noted(place.image)} w, {place.image.name} i, {place.sql.name(place.table)} t"
            where = f"({some}) AND {same(place)} AND {place.join} AND {missing}"
            yield (
                f"INSERT INTO {CONFLICTS} SELECT {label(place.image)}, concat_ws(', ', {keys}), "
                f"array_remove(ARRAY[{names}]::text[], NULL) FROM {source} WHERE {where}"
            )
            unset = ", ".join(f"{mark} = false" for mark in marks)
            table = place.sql.name(place.table)
            yield f"UPDATE {noted(place.image)} w SET {unset} FROM {place.image.name} i, {table} t WHERE {where}"


# --- conditions -------------------------------------------------------------------------------------------------------


def same(place: Place) -> str:
    """SQL: what was noted, ``w``, is of the row of the image, ``i``."""
    return " AND ".join(f"w.k{at} = i.k{at}" for at, _ in enumerate(place.image.keep.key, 1))


def _lacking(place: Place, reference: Reference, places: Places) -> str:
    """SQL over ``i``: the row that it refers to is not there; '' where that cannot be told."""
    values = []
    for row in reference.columns:
        found = next((place.back(at, kept, each) for at, kept, each in place.columns() if each.key == row.key), None)
        values.append(f"t.{quoted(row.name)}" if found is None else found)
    if any(value.startswith("t.") for value in values) and places:
        return ""
    given = " AND ".join(f"{value} IS NOT NULL" for value in values)
    pairs = list(zip(values, reference.referenced, strict=True))
    equal = " AND ".join(f"r.{quoted(row.name)} = {value}" for value, row in pairs)
    there = f"EXISTS (SELECT FROM {place.sql.name(reference.parent)} r WHERE {equal})"
    parent = places.get(reference.parent.key)
    if parent is not None:
        held = {row.key: parent.back(at, kept, row, of="pi") for at, kept, row in parent.columns()}
        if not all(row.key in held for row in reference.referenced):
            return ""
        comes = " AND ".join(f"{held[row.key]} = {value}" for value, row in pairs)
        keys = " AND ".join(f"pw.k{at} = pi.k{at}" for at, _ in enumerate(parent.image.keep.key, 1))
        there += (
            f" OR EXISTS (SELECT FROM {parent.image.name} pi JOIN {noted(parent.image)} pw ON {keys} WHERE pw.add AND {comes})"
        )
    return f"({given} AND NOT ({there}))"


def _referred(place: Place, reference: Reference, places: Places) -> str:
    """SQL over ``t``: somebody refers to it who stays."""
    pairs = zip(reference.columns, reference.referenced, strict=True)
    equal = " AND ".join(f"r.{quoted(own.name)} = t.{quoted(theirs.name)}" for own, theirs in pairs)
    child = places.get(reference.child.key)
    goes = ""
    if child is not None:
        goes = f" AND NOT EXISTS (SELECT FROM {noted(child.image)} cw WHERE cw.take AND {child.joined('r', 'cw')})"
    return f"EXISTS (SELECT FROM {place.sql.name(reference.child)} r WHERE {equal}{goes})"


# --- statements -------------------------------------------------------------------------------------------------------


def unmark(place: Place, mark: str, rest: str) -> str:
    """SQL: rows of which ``rest`` holds do not come, or go (``mark``), after all, and are listed."""
    keys = ", ".join(f"w.k{at}" for at, _ in enumerate(place.image.keep.key, 1))
    names = ", ".join(f"k{at}" for at, _ in enumerate(place.image.keep.key, 1))
    return (
        f"WITH left_out AS (UPDATE {noted(place.image)} w SET {mark} = false {rest} RETURNING {keys}) INSERT INTO {CONFLICTS} "
        f"SELECT {label(place.image)}, concat_ws(', ', {names}), '{{}}'::text[] FROM left_out"
    )


def until_none(rounds: Sequence[str]) -> str | None:
    """Each that is left out may leave out others."""
    if not rounds:
        return None
    each = " ".join(f"{one}; again := again OR FOUND;" for one in rounds)
    return f"DO {literal(f'DECLARE again bool; BEGIN LOOP again := false; {each} EXIT WHEN NOT again; END LOOP; END')}"
