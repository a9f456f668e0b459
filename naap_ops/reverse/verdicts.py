"""What became of a reverse where :func:`naap_ops.reverse.make.make` cannot say it: the fault was the shadow's."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from naap_ops import __version__, clock
from naap_ops.errors import OpsError
from naap_ops.postgres.catalog.model import Catalog
from naap_ops.reverse import document
from naap_ops.reverse.document import Facts
from naap_ops.reverse.guards import guards
from naap_ops.reverse.make import Reverse
from naap_ops.reverse.render import Sql
from naap_ops.reverse.script import Script

NOT_TRIED: Final = "it was not tried"
PROOF_FAILED: Final = "its proof failed:"


def proof_failed(reverse: Reverse) -> bool:
    """Whether it was refused because of its proof."""
    return reverse.status == "refused" and reverse.reason.startswith(PROOF_FAILED)


def facts(state: str, major: int, status: str, *proof: str) -> Facts:
    """For a header, as of now."""
    return Facts(state, f"PostgreSQL {major}", clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"), __version__, status, proof)


def unproved(script: Script, reason: str) -> Reverse:
    """There is no reverse because the migration could not be run, which says nothing against it."""
    return Reverse(script, "unproved", "", reason)


def refused(script: Script, reason: str, state: str, major: int) -> Reverse:
    """There is no reverse, and the file says why."""
    return Reverse(
        script, "refused", document.refused(None, script.name, script.sha256, reason, facts(state, major, "refused")), reason
    )


def spoiled(script: Script, failure: OpsError, state: str, major: int) -> Reverse:
    """Its proof ended outside a transaction, half-way."""
    return refused(script, f"{PROOF_FAILED}\n{failure.text}", state, major)


def unsure(reverse: Reverse, reason: str, before: Catalog, after: Catalog, sql: Sql, state: str) -> Reverse:
    """A reverse that was proved, but on a shadow that lacks something of the starting state."""
    if reverse.status != "proved" or reverse.plan is None or reverse.proof is None:
        return reverse
    said = facts(state, before.major, "unproved", reason, *reverse.proof.lines())
    text = document.write(reverse.plan, guards(before, after, sql), said)
    return replace(reverse, status="unproved", text=text, reason=reason)
