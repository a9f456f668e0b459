"""What of an archive's contents belongs to a table or a schema, from what pg_restore prints."""

from __future__ import annotations

from naap_ops.backup.manifest import TableFact
from naap_ops.backup.toc import Entry
from naap_ops.restore import contents

# As `pg_restore --list --verbose` prints it; names with spaces, and tables whose names begin like others.
LISTING = """;
; Selected TOC Entries:
;
7; 2615 16388 SCHEMA - app postgres
2640; 0 0 ACL - SCHEMA app postgres
;	depends on: 7
856; 1247 16391 TYPE app status postgres
;	depends on: 7
220; 1259 100 TABLE app or der postgres
;	depends on: 856 7
2643; 0 0 COMMENT app TABLE or der postgres
;	depends on: 220
2647; 0 0 ACL app COLUMN or der.id postgres
;	depends on: 220 2646
221; 1259 101 SEQUENCE app or der_id_seq postgres
;	depends on: 220 7
2641; 0 0 SEQUENCE OWNED BY app or der_id_seq postgres
;	depends on: 221
222; 1259 200 TABLE app or postgres
;	depends on: 7
2644; 0 0 COMMENT app COLUMN or.der postgres
;	depends on: 222
2438; 0 0 TABLE ATTACH app or der postgres
;	depends on: 220 227
2442; 2604 102 DEFAULT app or der id postgres
;	depends on: 221 220
2631; 0 100 TABLE DATA app or der postgres
;	depends on: 220
2632; 0 200 TABLE DATA app or postgres
;	depends on: 222
2652; 0 0 SEQUENCE SET app or der_id_seq postgres
;	depends on: 221
2452; 2606 103 CONSTRAINT app or der or der_pkey postgres
;	depends on: 220
2450; 1259 104 INDEX app or der_idx postgres
;	depends on: 220
2463; 0 0 INDEX ATTACH app or der_idx postgres
;	depends on: 2450 2455
2616; 0 100 ROW SECURITY app or der postgres
;	depends on: 220
2617; 3256 105 POLICY app or der p postgres
;	depends on: 220
2660; 0 0 COMMENT app POLICY p ON or der postgres
;	depends on: 2617
2620; 6106 106 PUBLICATION TABLE app pub or der postgres
;	depends on: 2618 220
2080; 826 107 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES postgres
;	depends on: 7
"""
OWN = ["1259:101", "2604:102", "2606:103", "1259:104", "3256:105"]
ORDER = TableFact(schema="app", name="or der", oid=100, owner="postgres", rows=1, objects=OWN)
OTHER = TableFact(schema="app", name="or", oid=200, owner="postgres", rows=1)


def ids(entries: list[Entry]) -> list[int]:
    return [entry.dump_id for entry in entries]


def test_a_table_with_all_that_belongs_to_it() -> None:
    found = contents.parse(LISTING).of_table(ORDER)
    attached_last = [2438, 2463]
    assert ids(found) == [220, 2643, 2647, 221, 2641, 2442, 2631, 2652, 2452, 2450, 2616, 2617, 2660, *attached_last]


def test_a_table_whose_name_is_the_beginning_of_anothers() -> None:
    assert ids(contents.parse(LISTING).of_table(OTHER)) == [222, 2644, 2632]


def test_publications_stay_and_default_privileges_come_on_demand() -> None:
    listed = contents.parse(LISTING)
    assert 2620 not in ids(listed.of_schema(default_privileges=True))
    assert 2080 in ids(listed.of_schema(default_privileges=True))
    assert 2080 not in ids(listed.of_schema(default_privileges=False))


def test_rights_come_last_and_rows_between() -> None:
    stages = contents.staged(contents.parse(LISTING).of_table(ORDER))
    assert ids(list(stages.before)) == [220, 2643, 221, 2641, 2442]
    assert ids(list(stages.rows)) == [2631, 2652]
    assert ids(list(stages.after)) == [2647, 2452, 2450, 2616, 2617, 2660, 2438, 2463]


def test_rows_from_another_archive_are_put_before_the_indexes() -> None:
    """A backup of rows alone: the structure comes without rows, the rows with other dump ids and without dependencies."""
    structure = [e for e in contents.parse(LISTING).of_table(ORDER) if not e.text.startswith(("TABLE DATA", "SEQUENCE SET"))]
    rows = contents.parse(
        "11; 0 100 TABLE DATA app or der postgres\n12; 0 200 TABLE DATA app or postgres\n"
        "13; 0 0 SEQUENCE SET app or der_id_seq postgres\n14; 0 0 SEQUENCE SET app or_id_seq postgres\n"
    ).rows_for(structure)
    assert ids(rows) == [11, 13]
    stages = contents.staged(structure, rows)
    assert ids(list(stages.before)) == [220, 2643, 221, 2641, 2442]
    assert ids(list(stages.rows)) == [11, 13]
    assert 2452 in ids(list(stages.after))


def test_without_rows_everything_is_structure() -> None:
    entries = contents.parse("1; 1255 5 FUNCTION app f() postgres\n2; 0 0 ACL app FUNCTION f() postgres\n").entries
    stages = contents.staged(entries)
    assert (ids(list(stages.before)), stages.rows, ids(list(stages.after))) == ([1], [], [2])
