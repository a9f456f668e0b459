"""What every kind of statement is undone by, word for word, and that this brings back what was.

Each case runs in schema ``public`` and in one whose name is hard to write. Beside our own catalog, which could forget a
property, pg_dump is asked whether the schema is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from naap_ops.errors import ForwardFailed
from naap_ops.postgres.catalog.difference import differences, reordered
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.postgres.catalog.snapshot import snapshot
from naap_ops.postgres.scratch import ScratchServer
from naap_ops.postgres.session import Connection
from naap_ops.reverse import rows
from naap_ops.reverse.model import Loss, Plan
from naap_ops.reverse.plan import plan
from naap_ops.reverse.render import Sql, quoted
from naap_ops.reverse.replay import replay
from naap_ops.reverse.script import parse
from tests.golden.cases import Case, load, read
from tests.golden.ground import Ground, canonical

SCHEMAS = ("public", 'Mixed Case "x"')
CASES = load()


@pytest.fixture(scope="session")
def grounds() -> Iterator[dict[ScratchServer, Ground]]:
    """Databases of this session, one per server."""
    made: dict[ScratchServer, Ground] = {}
    yield made
    for ground in made.values():
        ground.close()


@pytest.fixture
def ground(server: ScratchServer, grounds: dict[ScratchServer, Ground]) -> Iterator[Ground]:
    """An empty database on ``server``."""
    if server not in grounds:
        grounds[server] = Ground(server)
    yield grounds[server]
    grounds[server].clear()


@pytest.mark.pg(15, 16, 18)
@pytest.mark.parametrize(
    "schema", [pytest.param(SCHEMAS[0], id="public", marks=pytest.mark.long), pytest.param(SCHEMAS[1], id="odd")]
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden(ground: Ground, case: Case, schema: str) -> None:
    _needs(ground, case)
    session = ground.with_schema(schema)
    session.execute(case.before.encode())
    before, content, dump = snapshot(session, schema=schema), _content(session), _dump(ground, schema, case.before)
    script = parse(case.up.encode(), name=str(case))

    done = replay(session, script, before)
    found = plan(script, done.steps, Sql(schema=schema))

    if case.refused is not None:
        assert any(case.refused in refusal.reason for refusal in found.refusals), [r.reason for r in found.refusals]
        return
    assert not found.refusals
    assert case.down is not None
    assert ";\n".join(piece.sql for piece in found.pieces) == case.down.replace("{schema}", quoted(schema))
    assert tuple(_spelled(loss) for _, loss in found.losses) == case.loss
    if len(script.statements) == 1:  # asked in the state for which they are written
        assert [check for reversal in found.reversals for check in reversal.checks if _rows(session, check.query)] == []

    _run(session, found)

    _is_back(session, found, before)
    moved = reordered(before, snapshot(session, schema=schema))
    assert canonical(_dump(ground, schema), ordered=not moved) == canonical(dump, ordered=not moved)
    stays = any(loss.kind == "residue" for _, loss in found.losses)
    if not stays and not any(loss.kind in ("rows", "values") and not loss.since for _, loss in found.losses):
        assert rows.differences(content, _content(session)) == []
    try:
        again = replay(session, script, snapshot(session, schema=schema), steps=False)
    except ForwardFailed:
        assert stays  # rows that stay, as the loss says, are in the way of the same rows
        return
    assert [str(each) for each in differences(done.after, again.after)] == []


def _needs(ground: Ground, case: Case) -> None:
    if not case.major <= ground.major <= case.until:
        pytest.skip(f"for PostgreSQL {case.major or 'any'} to {case.until}")
    if case.extension:
        known = ground.connection.execute("select from pg_available_extensions where name = %s", [case.extension])
        if known.fetchone() is None:
            pytest.skip(f"this server has no extension {case.extension}")


def _is_back(session: Connection, found: Plan, before: Catalog) -> None:
    back = snapshot(session, schema=before.schema)
    assert [str(each) for each in differences(before, back)] == []
    if reordered(before, back):
        assert any("column_order" in reversal.dangers for reversal in found.reversals)


def _run(session: Connection, found: Plan) -> None:
    inside = False
    for piece in found.pieces:
        if piece.transactional != inside:
            session.execute("begin" if piece.transactional else "commit")
            inside = piece.transactional
        session.execute(piece.sql.encode())
    if inside:
        session.execute("commit")


def _dump(ground: Ground, schema: str, before: str | None = None) -> str:
    # Dumps are most of what a case costs: one schema is enough for them, and what was made by the same text is the same.
    if schema == "public":
        return ""
    if before is None:
        return ground.dump()
    if before not in ground.dumps:
        ground.dumps[before] = ground.dump()
    return ground.dumps[before]


def _content(session: Connection) -> rows.Image:
    query = """select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname !~ '^(pg_|information_schema)'"""
    return rows.image(session, [(schema, name) for schema, name in session.execute(query).fetchall()])


def _rows(session: Connection, query: str) -> list[Any]:
    return session.execute(query.encode()).fetchall()


def _spelled(loss: Loss) -> str:
    return f"{loss.kind} {loss.relation[1]}{'.' + loss.column if loss.column else ''}" if loss.relation else loss.kind


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"name": "x", "before": "", "up": "select 1"}, "either down or refused"),
        ({"name": "x", "before": "", "up": "select 1", "down": "", "refused": "no"}, "either down or refused"),
        ({"name": "x", "before": "", "up": "select 1", "down": ""}, "loss must be said"),
        ({"name": "x", "before": "", "up": "select 1", "refused": "no", "donw": ""}, "unknown fields"),
    ],
)
def test_a_case_says_what_must_come_out(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read("table", [entry])
