"""Carry a procedure out, go on with it, or undo it: begun is noted before each step, done after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from naap_ops import clock
from naap_ops.errors import OpsError, Refused
from naap_ops.procedure.journal import ABORTED, DONE, FAILED, Journal
from naap_ops.procedure.step import Step

if TYPE_CHECKING:
    from naap_ops.events import Events


def _nothing() -> None:
    """What most have to do before a step."""


def perform(
    journal: Journal, steps: Sequence[Step], events: Events, *, end: bool = True, before: Callable[[], None] = _nothing
) -> None:
    """Every step that is not done, in order; ``end``: they are the last. What a step raises ends it, the journal says where.

    ``before`` each step is called, as a part of it. Where nothing has been changed yet, the procedure has failed for good and
    needs neither resume nor abort. Raises Refused when its undoing was begun.
    """
    if journal.aborting:
        raise Refused(reason=f"{journal.id} is being undone", hint="Finish that: --abort again.")
    for at, step in enumerate(steps):
        if step.done():
            if journal.state(step.name) not in (None, DONE):
                journal.note("step", name=step.name, state=DONE, found=True)
            continue
        _one(journal, step, steps, at, events, before)
    if end:
        journal.end(DONE)


def _one(journal: Journal, step: Step, steps: Sequence[Step], at: int, events: Events, before: Callable[[], None]) -> None:
    journal.note("step", name=step.name, state="begun")
    events.emit(f"{journal.procedure}.step", name=step.name, text=step.text)
    began = clock.monotonic()
    try:
        before()
        facts = step.run()
    except OpsError as error:
        with suppress(OpsError):  # a full disk, a server that is gone: what went wrong first is what people must hear
            _failed(journal, step, steps, at, error, _since(began))
        raise
    journal.note("step", name=step.name, state=DONE, seconds=_since(began), facts=facts or {})


def _failed(journal: Journal, step: Step, steps: Sequence[Step], at: int, error: OpsError, seconds: float) -> None:
    journal.note("step", name=step.name, state=FAILED, seconds=seconds, error=error.text)
    if not step.halfway() and not any(each.changes and each.done() for each in steps[:at]) and _nothing_else(journal, steps):
        journal.end(FAILED, error=error.text)


def _nothing_else(journal: Journal, steps: Sequence[Step]) -> bool:
    """Whether no step was done that is not among ``steps``: those of an earlier call."""
    own = {step.name for step in steps}
    return not any(each["state"] == DONE and each["name"] not in own for each in journal.steps())


def abort(journal: Journal, steps: Sequence[Step], events: Events) -> None:
    """Undo what was begun, last first. What a step raises ends it here; calling it again goes on."""
    if not journal.aborting:
        journal.note("abort")
    for step in reversed(steps):
        if journal.state(step.name) in (None, "undone"):
            continue
        journal.note("step", name=step.name, state="undoing")
        events.emit(f"{journal.procedure}.step", name=f"undo {step.name}", text=f"undoing: {step.text}")
        began = clock.monotonic()
        facts = step.undo()
        journal.note("step", name=step.name, state="undone", seconds=_since(began), facts=facts or {})
    journal.end(ABORTED)


def _since(began: float) -> float:
    return round(clock.monotonic() - began, 3)
