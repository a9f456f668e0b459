"""Make the reverse of one migration on a shadow: read, run, plan, write, prove. The one way by which a ``down.sql`` comes to
be."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

from naap_ops import __version__, clock
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import document, refusals
from naap_ops.reverse.document import Facts
from naap_ops.reverse.explained import Explained, explain
from naap_ops.reverse.given import Values, given
from naap_ops.reverse.guards import guards
from naap_ops.reverse.images.compose import composed
from naap_ops.reverse.images.keeps import keeps
from naap_ops.reverse.images.model import Cannot, Image, Keep, Name, images_of
from naap_ops.reverse.images.parks import Park, marked, parks
from naap_ops.reverse.locks import locks
from naap_ops.reverse.model import Loss, Plan
from naap_ops.reverse.plan import plan
from naap_ops.reverse.proof import Proof, Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.replay import Replay
from naap_ops.reverse.script import Script
from naap_ops.reverse.unfit import Unfit, askable, unfits

Status = Literal["proved", "refused", "unproved"]

_NOTHING_DIFFERS: Final = Explained(frozenset(), frozenset())


@dataclass(frozen=True)
class Reverse:
    """A reverse and what is known of it. ``text``: the whole of ``down.sql``; ``reason``: why it is refused or unproved, else
    ''."""

    script: Script
    status: Status
    text: str
    reason: str = ""
    plan: Plan | None = None
    proof: Proof | None = None
    seconds: float = 0.0
    differing: Explained = _NOTHING_DIFFERS
    """What the losses say may differ, by the names of before the migration."""
    keeps: tuple[Keep, ...] = ()
    """What images would have to hold for the rest to come back."""
    cannot: tuple[Cannot, ...] = ()
    """What no image would bring back."""
    unfit: tuple[str, ...] = ()
    """Why the images that were given are not used."""
    parks: tuple[Park, ...] = ()
    """What the reverse itself takes away, and would have to be parked for rolling forward again."""
    unheld: tuple[Unfit, ...] = ()
    """Rows that the state before the migration cannot hold, where there are any."""

    @property
    def transactional(self) -> bool:
        """One transaction does it all."""
        return self.plan is None or all(piece.transactional for piece in self.plan.pieces)

    @cached_property
    def losses(self) -> list[dict[str, Any]]:
        """What is lost: ``statement`` (from 1), ``sql``, ``loss`` (its kind), ``object``, ``reason``, ``since``; ``source``:
        where it comes back from, or none, cannot; of an image its ``rows`` and ``bytes``."""
        return [
            {
                "statement": statement.index,
                "sql": statement.sql,
                "loss": loss.kind,
                "object": ".".join([*(loss.relation or ()), *([loss.column] if loss.column else [])]),
                "reason": loss.reason,
                "since": loss.since,
                "source": loss.source,
                "rows": loss.rows,
                "bytes": loss.bytes,
            }
            for statement, loss in (self.plan.losses if self.plan else [])
        ]

    def as_dict(self) -> dict[str, Any]:
        """What ``down.json`` holds, and ``--json`` prints."""
        proof = self.proof
        return {
            "format": document.FORMAT,
            "migration": self.script.name,
            "sha256": self.script.sha256,
            "status": self.status,
            "reason": self.reason,
            "losses": self.losses,
            "may_differ": {
                "tables": sorted(map(list, self.differing.tables)),
                "columns": sorted([*table, column] for table, column in self.differing.columns),
            },
            "locks": locks(self.plan.pieces) if self.plan else {},
            "transactional": self.transactional,
            "dangers": sorted({word for reversal in self.plan.reversals for word in reversal.dangers}) if self.plan else [],
            "families": sorted({name for reversal in self.plan.reversals for name in reversal.families}) if self.plan else [],
            "captures": [
                {
                    "statement": reversal.statement.index,
                    "relation": list(each.relation),
                    "columns": each.columns,
                    "reason": each.reason,
                }
                for reversal in (reversed(self.plan.reversals) if self.plan else ())
                for each in reversal.captures
            ],
            "keeps": [keep.as_dict() for keep in self.keeps],
            "cannot": [each.as_dict() for each in self.cannot],
            "parks": [park.as_dict() for park in self.parks],
            "unfit": [each.as_dict() for each in self.unheld],
            "proof": None
            if proof is None
            else {
                "schema": proof.schema,
                "again": proof.again,
                "rows": proof.rows,
                "failures": list(proof.failures),
                "tables": list(proof.tables),
                "empty": proof.empty,
                "conditions": list(proof.conditions),
                "reordered": list(proof.reordered),
                "seconds": round(proof.seconds, 3),
            },
            "seconds": round(self.seconds, 3),
        }


def make(
    shadow: Shadow,
    script: Script,
    sql: Sql,
    *,
    state: str,
    prove: bool = True,
    images: Sequence[Image] = (),
    force: bool = False,
    park: bool = False,
    values: Values | None = None,
) -> Reverse:
    """The reverse of ``script``, whose starting state is the shadow's. Afterwards the shadow is in the state after it.

    ``state``: the starting state in words. ``images``: what it brings rows back from, if that can be proved, ``force``: over
    newer values; else it is what it is without, and says so in its losses. ``park``: what it takes away is parked. ``values``:
    for columns that come back. Raises ForwardFailed when the migration does not run, ShadowSpoiled when the shadow has to be
    made anew; a refusal is a result, not an error. Nothing is run that would leave the shadow.
    """
    began = time.monotonic()
    facts = Facts(
        state, f"PostgreSQL {shadow.catalog.major}", clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"), __version__, "unproved"
    )
    outside = refusals.refusals(script)
    if outside:
        reason = "\n".join(f"statement {each.statement.index}: {each.reason}" for each in outside)
        return _refused(script, None, reason, facts, began)
    before = shadow.catalog
    if prove:
        shadow.fill(script)
    shadow.images = tuple(images)
    done = shadow.forward(script)
    planned = given(plan(script, done.steps, sql), done.steps, before, done.after, values or {}, sql)
    if planned.refusals:
        reason = "\n".join(f"statement {each.statement.index}: {each.reason}" for each in planned.refusals)
        return _refused(script, planned, reason, facts, began)
    found = guards(before, done.after, sql)
    parked = parks(planned, done.steps, before, done.after, images if park else ())
    put = frozenset(each.relation for each in parked if each.put and park)
    unheld = askable(shadow.connection, unfits(planned, done.steps, before, done.after, sql))
    planned, kept, cannot = _answered(marked(planned, done.steps, before, done.after, parked), done, before, sql)
    if not prove:
        text, differing = document.write(planned, found, facts), explain(planned, done.steps, before)
        return Reverse(
            script,
            "unproved",
            text,
            "it was not tried",
            planned,
            None,
            time.monotonic() - began,
            differing,
            kept,
            cannot,
            parks=parked,
            unheld=unheld,
        )
    unfit: list[str] = []
    for tried, strict in _plans(planned, done, before, shadow.images, sql, force=force, parked=put):
        found = guards(before, done.after, sql, [column.name for each in tried.staged for column in each.columns])
        proof = shadow.prove(script, done, before, tried, document.write(tried, found, facts), strict=strict)
        if proof.proved:
            break
        unfit = unfit or list(proof.failures)
    known = replace(facts, proof=tuple(proof.lines()))
    if not proof.proved:
        return replace(_refused(script, planned, "its proof failed:\n" + "\n".join(proof.failures), known, began), proof=proof)
    text, differing = document.write(tried, found, replace(known, status="proved")), explain(tried, done.steps, before)
    return Reverse(
        script, "proved", text, "", tried, proof, time.monotonic() - began, differing, kept, cannot,
        unfit=tuple(unfit) if images and tried is planned else (), parks=parked, unheld=unheld,
    )  # fmt: skip


def _answered(planned: Plan, done: Replay, before: Catalog, sql: Sql) -> tuple[Plan, tuple[Keep, ...], tuple[Cannot, ...]]:
    """The plan whose losses say what no image would bring back; what images would have to hold; and why not more."""
    kept, cannot = keeps(planned, done.steps, before, done.after)
    images = images_of(planned.script.name, kept)
    best = composed(planned, done.steps, before, done.after, images, sql)
    if best is None:
        cannot += tuple(Cannot(keep.relation, None, "its reverse is not one transaction") for keep in kept)
        kept, best = (), planned
    reversals = tuple(
        replace(each, losses=tuple(map(_hopeless, each.losses, like.losses)))
        for each, like in zip(planned.reversals, best.reversals, strict=True)
    )
    return replace(planned, reversals=reversals), kept, cannot


def _hopeless(loss: Loss, best: Loss) -> Loss:
    data = loss.kind in ("rows", "values", "residue") and not loss.since
    return replace(loss, source="cannot") if data and not best.comes_back else loss


def _plans(
    planned: Plan, done: Replay, before: Catalog, images: Sequence[Image], sql: Sql, *, force: bool, parked: Collection[Name]
) -> Iterator[tuple[Plan, bool]]:
    """With what the images hold: columns filled beforehand, each row at its place; all of it in one transaction; rows at its
    very end; without. Strictly at first: what works on all rows goes before what stops on some."""
    best: list[Plan] = []
    for staged, late in ((True, False), (False, False), (False, True)) if images else ():
        chosen = [replace(image, staged=image.staged and staged) for image in images]
        filled = composed(planned, done.steps, before, done.after, chosen, sql, late=late, force=force, parked=parked)
        if filled is not None and bool(filled.staged) == staged:
            best.append(filled)
            yield filled, True
    if best:
        yield planned, True
        yield best[0], False
    yield planned, False


def _refused(script: Script, planned: Plan | None, reason: str, facts: Facts, began: float) -> Reverse:
    text = document.refused(planned, script.name, script.sha256, reason, replace(facts, status="refused"))
    return Reverse(script, "refused", text, reason, planned, None, time.monotonic() - began)
