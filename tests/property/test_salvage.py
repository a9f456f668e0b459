"""Whatever the schema and whatever was written on both sides: a salvage does what the table of cases says, row by row.

The oracle knows three states (the backup's, the old one's, the live one's) and the constraints, and nothing of transactions,
staging or order. Each example holds several schemas with a history of their own: a backup and a restore take longest.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection, connect
from tests import salvaged
from tests.salvaged import Ground

ISLANDS = 4
EXAMPLES = 6
MODES = ("report", "theirs", "ours")
Row = dict[str, str | None]
State = dict[str, dict[tuple[str | None, ...], Row]]

ACTIONS = st.sampled_from(["cascade", "set null", "restrict", "no action"])
VALUES = {
    "text": "'v' || {n}",
    "numeric": "{n} / 10.0",
    "jsonb": "jsonb_build_object('n', {n})",
    "json": "json_build_object('n', {n})",
    "int[]": "array[{n}, null]",
    "bytea": "decode(lpad(to_hex({n}), 8, '0'), 'hex')",
    "timestamptz": "timestamptz '2026-01-01' + {n} * interval '1 second'",
    "float8": "{n}::float8 / 3",
}
KEYS = {"a": ("id",), "b": ("k1", "k2"), "c": ("id",), "d": ("id",)}
# child, its columns, parent; the parent's key is referred to.
LINKS: list[tuple[str, tuple[str, ...], str]] = [
    ("a", ("boss",), "a"),
    ("a", ("fav",), "c"),
    ("b", ("a",), "a"),
    ("c", ("b1", "b2"), "b"),
    ("d", ("a",), "a"),
    ("d", ("c",), "c"),
]
UNIQUE: dict[str, list[tuple[str, ...]]] = {"a": [("u",)], "d": [("a", "c")]}


@dataclass(frozen=True)
class Island:
    """One schema: what each foreign key does on DELETE, the type of the values, a seed for its history."""

    name: str
    actions: tuple[str, ...]
    type: str
    seed: int

    @property
    def ddl(self) -> str:
        boss, fav, ba, cb, da, dc = self.actions
        return f"""
create schema {self.name}; set search_path = {self.name};
create table a (id int generated always as identity primary key, u text unique, boss int references a on delete {boss},
  fav text, v {self.type});
create table b (k1 int, k2 text, a int references a on delete {ba}, v {self.type}, primary key (k1, k2));
create table c (id text primary key, b1 int, b2 text, v {self.type}, foreign key (b1, b2) references b on delete {cb});
create table d (id serial primary key, a int not null references a on delete {"cascade" if da == "set null" else da},
  c text references c on delete {dc}, v {self.type}, unique (a, c));
alter table a add foreign key (fav) references c on delete {fav};
"""

    def writes(self, of: str, count: int, counter: Iterator[int]) -> Iterator[str]:
        """Random statements; every value is written once only, so that a row that was written is another one."""
        dice = random.Random(f"{self.name} {self.seed} {of}")
        for n in itertools.islice(counter, count):
            value = VALUES[self.type].format(n=n)
            number, word = dice.randint(0, 9), f"'k{dice.randint(1, 16)}'"
            table = dice.choice("aaabbccdd")
            every: dict[str, dict[str, str]] = {
                "a": {
                    "u": dice.choice(["null", f"'u{dice.randint(1, 12)}'"]),
                    "boss": self._any("a", dice),
                    "fav": self._any("c", dice),
                },
                "b": {"a": self._any("a", dice)},
                "c": {"b1": self._any("b", dice), "b2": "'x'"},
                "d": {"a": self._any("a", dice, null=False), "c": self._any("c", dice)},
            }
            columns = every[table] | {"v": value}
            key = f"{KEYS[table][0]} = {self._any(table, dice, null=False)}"
            act = dice.choice(["insert"] * 4 + ["update"] * 4 + ["delete"] * 2 if of != "base" else ["insert"])
            if act == "delete":
                yield f"delete from {self.name}.{table} where {key}"
            elif act == "update":
                chosen = dice.sample(sorted(set(columns) - {"v"}), dice.randint(0, len(columns) - 1))
                sets = ", ".join(f"{name} = {columns[name]}" for name in [*chosen, "v"])
                yield f"update {self.name}.{table} set {sets} where {key}"
            else:
                own = {"b": {"k1": str(number), "k2": "'x'"}, "c": {"id": word}}
                columns |= own.get(table, {})
                yield f"insert into {self.name}.{table} ({', '.join(columns)}) values ({', '.join(columns.values())})"

    def _any(self, table: str, dice: random.Random, *, null: bool = True) -> str:
        """The key of some row there is (of b, its first column), or sometimes null."""
        if null and dice.random() < 0.4:
            return "null"
        key = KEYS[table][0]
        return f"(select {key} from {self.name}.{table} order by md5({key}::text || '{dice.random()}') limit 1)"


@dataclass
class Oracle:
    """What a salvage must come to."""

    base: State
    old: State
    live: State
    mode: str
    deletes: bool
    left: dict[str, int] = field(default_factory=dict)
    conflicts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan: dict[tuple[str, tuple[str | None, ...]], str] = {}
        self.twins: set[tuple[str, tuple[str | None, ...]]] = set()
        for table in KEYS:
            keys = self.base[table].keys() | self.old[table].keys() | self.live[table].keys()
            for key in keys:
                b, o, n = (state[table].get(key) for state in (self.base, self.old, self.live))
                if o in (n, b):
                    continue
                if n == b:
                    self.plan[table, key] = "delete" if o is None else "insert" if b is None else "update"
                    if o is None and not self.deletes:
                        del self.plan[table, key]
                        self._leave(table)
                else:
                    self._conflict(table, key, b, o, n)

    def _conflict(self, table: str, key: tuple[str | None, ...], b: Row | None, o: Row | None, n: Row | None) -> None:
        self.conflicts[table] = self.conflicts.get(table, 0) + 1
        if self.mode == "theirs" and o is not None:
            self.plan[table, key] = "insert" if n is None else "update"
            return
        if b is None:
            self.twins.add((table, key))
        if self.mode != "ours":
            self._leave(table)

    def _leave(self, table: str) -> None:
        self.left[table] = self.left.get(table, 0) + 1

    def result(self, rings: set[tuple[str, str]]) -> State:
        """The live database afterwards. ``rings``: rows that waited for one another."""
        ringed = [each for each in self.plan if (each[0], str(each[1][0])) in rings]
        assert all(self._waits(*each) for each in ringed), ringed
        for each in ringed:
            del self.plan[each]
            self._leave(each[0])
        while True:
            state = self._applied()
            wrong = [each for each in self.plan if not self._holds(*each, state)]
            if not wrong:
                return state
            for each in wrong:
                del self.plan[each]
                self._leave(each[0])

    def _waits(self, table: str, key: tuple[str | None, ...]) -> bool:
        """A unique value of it is, in the live database, that of a row that changes as well."""
        row = self.old[table][key]
        return any(
            (table, other) in self.plan and all(each[name] == row[name] is not None for name in names)
            for names in UNIQUE[table] for other, each in self.live[table].items() if other != key
        )  # fmt: skip

    def _applied(self) -> State:
        state = {table: dict(rows) for table, rows in self.live.items()}
        for (table, key), what in self.plan.items():
            if what == "delete":
                del state[table][key]
            else:
                row = self.old[table][key]
                state[table][key] = row
        return state

    def _holds(self, table: str, key: tuple[str | None, ...], state: State) -> bool:
        if self.plan[table, key] == "delete":
            return not any(
                tuple(row[name] for name in names) == key
                for child, names, parent in LINKS if parent == table for row in state[child].values()
            )  # fmt: skip
        row = state[table][key]
        for child, names, parent in LINKS:
            if child != table:
                continue
            target = tuple(row[name] for name in names)
            if None not in target and (target not in state[parent] or (parent, target) in self.twins):
                return False
        for names in UNIQUE.get(table, []):
            mine = tuple(row[name] for name in names)
            others = (each for other, each in state[table].items() if other != key)
            if None not in mine and any(tuple(each[name] for name in names) == mine for each in others):
                return False
        return True


def state(ground: Ground, island: Island, dbname: str | None = None) -> State:
    assert ground.info is not None
    found: State = {}
    with connect(ground.info, dbname=dbname) as connection:
        for table, key in KEYS.items():
            cursor = connection.execute(f"select * from {island.name}.{table}".encode())
            assert cursor.description is not None
            names = [each.name for each in cursor.description]
            columns = ", ".join(f"{name}::text" for name in names)
            rows = connection.execute(f"select {columns} from {island.name}.{table}".encode()).fetchall()
            named = [dict(zip(names, row, strict=True)) for row in rows]
            found[table] = {tuple(row[name] for name in key): row for row in named}
    return found


def write(connection: Connection, statements: Iterator[str]) -> None:
    """What breaks a constraint does not happen."""
    for statement in statements:
        try:
            connection.execute(statement.encode())
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError):
            continue


islands = st.lists(
    st.tuples(st.tuples(*[ACTIONS] * 6), st.sampled_from(sorted(VALUES)), st.integers(0, 2**32)),
    min_size=ISLANDS,
    max_size=ISLANDS,
)


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=islands, mode=st.sampled_from(MODES), deletes=st.sampled_from([True, True, False]))
def test_a_salvage_is_what_the_oracle_says(any_server: ScratchServer, drawn: list[Any], mode: str, deletes: bool) -> None:
    made = [Island(f"s{at}", *each) for at, each in enumerate(drawn)]
    counter = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder, salvaged.ground(any_server, Path(folder)) as ground:
        assert ground.info is not None
        for island in made:
            ground.sql(island.ddl)
        _write(ground, made, "base", 40, counter)
        base = [state(ground, island) for island in made]
        assert ground.run("backup").code == 0
        _write(ground, made, "old", 40, counter)
        swap = ground.run("restore", "--swap", "--yes", "--json")
        ground.kept = swap.json["previous"]
        _write(ground, made, "live", 25, counter)
        words = ["--conflicts", mode, *([] if deletes else ["--no-deletes"])]
        oracles = [
            Oracle(before, state(ground, island, ground.kept), state(ground, island), mode, deletes)
            for before, island in zip(base, made, strict=True)
        ]
        planned = ground.salvage("--dry-run", *words).json["tables"]
        found = ground.salvage(*words)
        assert found.code == 0, found.err
        tables = found.json["tables"]
        for island, oracle in zip(made, oracles, strict=True):
            rings = {
                (name.partition(".")[2], key.split(", ")[0])
                for name, each in tables.items() if name.startswith(f"{island.name}.")
                for reason in each["reasons"] if "waits for this one" in reason["reason"] for key in reason["keys"]
            }  # fmt: skip
            assert state(ground, island) == oracle.result(rings), (island, found.out)
            mine = {name.partition(".")[2]: each for name, each in tables.items() if name.startswith(f"{island.name}.")}
            assert {name: each["left"] for name, each in mine.items() if each["left"]} == oracle.left, (island, found.out)
            assert {name: each["conflicts"] for name, each in mine.items() if each["conflicts"]} == oracle.conflicts
            if not rings:
                assert all(planned[f"{island.name}.{name}"] == each for name, each in mine.items())
        again = ground.done(*words)
        assert not any(sum(counts[:3]) for counts in again.values()), again


def _write(ground: Ground, made: list[Island], of: str, count: int, counter: Iterator[int]) -> None:
    assert ground.info is not None
    with connect(ground.info) as connection:
        for island in made:
            write(connection, island.writes(of, count, counter))
