"""Prove a ``down.sql`` as it stands, perhaps edited by hand: only its header is written anew."""

from __future__ import annotations

import time
from dataclasses import replace

from naap_ops.errors import ShadowSpoiled
from naap_ops.reverse import document, refusals, verdicts
from naap_ops.reverse.guards import guards
from naap_ops.reverse.images.keeps import keeps
from naap_ops.reverse.images.parks import marked, parks
from naap_ops.reverse.make import Reverse
from naap_ops.reverse.plan import plan
from naap_ops.reverse.proof import Shadow
from naap_ops.reverse.render import Sql, literal
from naap_ops.reverse.script import Script, parse
from naap_ops.reverse.unfit import askable, unfits

_MESSAGE = literal("this reverse failed its proof: mend it, and run `invoke reverse.prove`")
_STOP = f"DO $naap$ BEGIN RAISE EXCEPTION USING MESSAGE = {_MESSAGE}; END $naap$;"
_BY_HAND = "it was edited by hand; the losses named here are those of the reverse that was written"


def prove(shadow: Shadow, script: Script, text: str, sql: Sql, *, state: str, by_hand: bool) -> Reverse:
    """Forward, ``text``, compare, rows, forward again. The result's text is ``text`` under a header that says how it went.

    Raises MigrationUnreadable when it is no SQL, ForwardFailed when the migration does not run.
    """
    began = time.monotonic()
    before = shadow.catalog
    body = _body(text)
    outside = [*refusals.refusals(script), *refusals.refusals(parse(body.encode(), name="down.sql"))]
    if outside:
        reason = "\n".join(f"statement {each.statement.index}: {each.reason}" for each in outside)
        return replace(
            verdicts.refused(script, reason, state, before.major),
            text=_stopped(_header(script, reason, state, before.major), body),
        )
    shadow.fill(script)
    done = shadow.forward(script)
    planned = plan(script, done.steps, sql)
    extra = [_BY_HAND] if by_hand else []
    try:
        proof = shadow.prove(script, done, before, planned, body)
    except ShadowSpoiled as failure:
        reason = f"{verdicts.PROOF_FAILED}\n{failure.text}"
        return Reverse(script, "refused", _stopped(_header(script, reason, state, before.major), body), reason, planned)
    seconds = time.monotonic() - began
    if not proof.proved:
        reason = f"{verdicts.PROOF_FAILED}\n" + "\n".join(proof.failures)
        return Reverse(
            script, "refused", _stopped(_header(script, reason, state, before.major), body), reason, planned, proof, seconds
        )
    kept, cannot = keeps(planned, done.steps, before, done.after)
    parked = parks(planned, done.steps, before, done.after)
    unheld = askable(shadow.connection, unfits(planned, done.steps, before, done.after, sql))
    planned = marked(planned, done.steps, before, done.after, parked)
    facts = verdicts.facts(state, before.major, "proved", *proof.lines(), *extra)
    head = document.write(planned, guards(before, done.after, sql), facts).partition("\n\n")[0]
    text = f"{head}\n\n{body}"
    return Reverse(script, "proved", text, "", planned, proof, seconds, keeps=kept, cannot=cannot, parks=parked, unheld=unheld)


def _body(text: str) -> str:
    """What follows the header that we wrote: our headers end at the first blank line. Without one, all of it."""
    body = text if document.status_of(text) is None else text.partition("\n\n")[2]
    return "".join(line for line in body.splitlines(keepends=True) if line.rstrip("\r\n") != _STOP)


def _header(script: Script, reason: str, state: str, major: int) -> str:
    facts = verdicts.facts(state, major, "refused")
    return document.refused(None, script.name, script.sha256, reason, facts).partition("\n\n")[0]


def _stopped(head: str, body: str) -> str:
    """Not usable, but not thrown away: it stops in its first transaction until it has been mended and proved."""
    lines = body.splitlines(keepends=True)
    begin = next((at + 1 for at, line in enumerate(lines) if line.rstrip() == "BEGIN;"), 0)
    return "".join([f"{head}\n\n", *lines[:begin], f"{_STOP}\n", *lines[begin:]])
