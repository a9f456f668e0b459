"""Make the reverse of one migration on a shadow: read, run, plan, write, prove. The one way by which a ``down.sql`` comes to
be."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

from naap_ops import __version__, clock
from naap_ops.reverse import document, refusals
from naap_ops.reverse.document import Facts
from naap_ops.reverse.explained import Explained, explain
from naap_ops.reverse.guards import guards
from naap_ops.reverse.locks import locks
from naap_ops.reverse.model import Plan
from naap_ops.reverse.plan import plan
from naap_ops.reverse.proof import Proof, Shadow
from naap_ops.reverse.render import Sql
from naap_ops.reverse.script import Script

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

    @property
    def transactional(self) -> bool:
        """One transaction does it all."""
        return self.plan is None or all(piece.transactional for piece in self.plan.pieces)

    @cached_property
    def losses(self) -> list[dict[str, Any]]:
        """What is lost: ``statement`` (from 1), ``sql``, ``loss`` (its kind), ``object``, ``reason``, ``since``."""
        return [
            {
                "statement": statement.index,
                "sql": statement.sql,
                "loss": loss.kind,
                "object": ".".join([*(loss.relation or ()), *([loss.column] if loss.column else [])]),
                "reason": loss.reason,
                "since": loss.since,
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


def make(shadow: Shadow, script: Script, sql: Sql, *, state: str, prove: bool = True) -> Reverse:
    """The reverse of ``script``, whose starting state is the shadow's. Afterwards the shadow is in the state after it.

    ``state``: the starting state in words. Raises ForwardFailed when the migration does not run, ShadowSpoiled when the
    shadow has
    to be made anew; a refusal is a result, not an error. Nothing is run that would leave the shadow.
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
    done = shadow.forward(script)
    planned = plan(script, done.steps, sql)
    if planned.refusals:
        reason = "\n".join(f"statement {each.statement.index}: {each.reason}" for each in planned.refusals)
        return _refused(script, planned, reason, facts, began)
    found, differing = guards(before, done.after, sql), explain(planned, done.steps, before)
    text = document.write(planned, found, facts)
    if not prove:
        return Reverse(script, "unproved", text, "it was not tried", planned, None, time.monotonic() - began, differing)
    proof = shadow.prove(script, done, before, planned, text)
    facts = replace(facts, proof=tuple(proof.lines()))
    if not proof.proved:
        return replace(_refused(script, planned, "its proof failed:\n" + "\n".join(proof.failures), facts, began), proof=proof)
    text = document.write(planned, found, replace(facts, status="proved"))
    return Reverse(script, "proved", text, "", planned, proof, time.monotonic() - began, differing)


def _refused(script: Script, planned: Plan | None, reason: str, facts: Facts, began: float) -> Reverse:
    text = document.refused(planned, script.name, script.sha256, reason, replace(facts, status="refused"))
    return Reverse(script, "refused", text, reason, planned, None, time.monotonic() - began)
