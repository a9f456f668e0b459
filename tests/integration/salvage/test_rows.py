"""What becomes of each row: written in the old, in the live, in both, in neither."""

from __future__ import annotations

import pytest

from tests.salvaged import Ground

PEOPLE = """
create table person (id int primary key, name text);
insert into person select i, 'base ' || i from generate_series(1, 9) i;
"""
# 1 untouched; 2 3 4 5 6 changed, deleted in the old; 7 8 in the live; 10 11 12 are new.
OLD = """
update person set name = 'old 2' where id = 2;
delete from person where id = 3;
update person set name = 'old 4' where id = 4;
update person set name = 'old 5' where id = 5;
delete from person where id = 6;
insert into person values (10, 'old 10'), (11, 'old 11'), (12, 'same');
"""
LIVE = """
update person set name = 'live 4' where id = 4;
delete from person where id = 5;
update person set name = 'live 6' where id = 6;
update person set name = 'live 7' where id = 7;
delete from person where id = 8;
insert into person values (11, 'live 11'), (12, 'same'), (13, 'live 13');
"""


def people(ground: Ground) -> dict[int, str]:
    return dict(ground.rows("select id, name from person"))


@pytest.mark.pg(15, 16, 18)
def test_every_case(ground: Ground) -> None:
    ground.laid(PEOPLE, OLD, LIVE)
    before = ground.texts("person")
    planned = ground.salvage("--dry-run").json
    assert ground.texts("person") == before
    answer = ground.salvage()
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["tables"] == planned["tables"]
    table = found["tables"]["public.person"]
    assert [table[key] for key in ("inserted", "updated", "deleted", "left", "conflicts")] == [1, 1, 1, 4, 4]
    assert {each["reason"].split(":")[0]: each["keys"] for each in table["reasons"]} == {
        "changed in both": ["4"],
        "changed in the old, deleted in the live": ["5"],
        "deleted in the old, changed in the live": ["6"],
        "inserted in both": ["11"],
    }
    assert people(ground) == {
        1: "base 1",
        2: "old 2",
        4: "live 4",
        6: "live 6",
        7: "live 7",
        9: "base 9",
        10: "old 10",
        11: "live 11",
        12: "same",
        13: "live 13",
    }
    told = ground.run("salvage", "--since-backup", "--yes").out.splitlines()
    assert told[0].startswith("0 rows brought over from")
    assert [line.split() for line in told[1:3]] == [
        ["TABLE", "INSERTED", "UPDATED", "DELETED", "LEFT", "CONFLICTS"],
        ["public.person", "0", "0", "0", "4", "4"],
    ]
    assert "left: public.person: 1 row: changed in both (4)" in told
    again = ground.salvage().json["tables"]["public.person"]
    assert [again[key] for key in ("inserted", "updated", "deleted", "left")] == [0, 0, 0, 4]
    runs = ground.rows(
        "select result, detail ->> 'kept', detail -> 'tables' from naap_ops.runs where what = 'salvage' order by id"
    )
    assert runs == [("done", ground.kept, {"public.person": [1, 1, 1]}), *[("done", ground.kept, {})] * 2]
