"""A guarded deploy, start to end: backup, reverses, a second look, the migrations, the books afterwards, the record.

With a schema per tenant there is one backup, one proof of each reverse, and then schema after schema; one that fails neither
stops nor hides the others. Nothing of it is gone on with after a crash: the next deploy looks anew, and what is applied by then
is not pending any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from naap_ops import clock, exclusion, redact
from naap_ops.app import App
from naap_ops.deploys import capture, returning, ways_back
from naap_ops.deploys.applying import Applying
from naap_ops.deploys.capture import Wanted
from naap_ops.deploys.preflight import Preflight, look
from naap_ops.deploys.record import Record
from naap_ops.errors import (
    AuthenticationFailed,
    Busy,
    DatabaseMissing,
    OpsError,
    Partial,
    Refused,
    ServerUnreachable,
    ToolMissing,
    WorkInterrupted,
)
from naap_ops.postgres.session import connect
from naap_ops.procedure import journal as journals
from naap_ops.procedure.journal import DONE, FAILED, Journal
from naap_ops.restore.failures import server_errors

NAME: Final = "deploy"
LABEL: Final = "pre_deploy"
# What the next tenant would fail on as well, after as long a wait.
_FOR_ALL: Final = (Busy, ServerUnreachable, AuthenticationFailed, DatabaseMissing, ToolMissing)
_WORST: Final = ("failed", "pending", "absent")


@dataclass(frozen=True)
class Asked:
    """What the flags say. ``backup``: this one instead of a new one; ``allowed``: names that need no proved reverse;
    ``tenant``, ``all_tenants``: in whose schemas; ``capture``: rows are kept however many, ``no_capture``: none are;
    ``no_parked``: what is parked stays so."""

    backup: str | None = None
    no_backup: bool = False
    allowed: tuple[str, ...] = ()
    tenant: str | None = None
    all_tenants: bool = False
    capture: bool = False
    no_capture: bool = False
    no_parked: bool = False


def preflight(app: App, database: str | None, asked: Asked, *, drift: bool = False) -> Preflight:
    """What would be done. Raises what :func:`naap_ops.deploys.preflight.look` raises."""
    seen = look(app, database, tenant=asked.tenant, all_tenants=asked.all_tenants, drift=drift)
    return replace(seen, parked=()) if asked.no_parked else seen


def none_left_out(seen: Preflight) -> None:
    """Raise Partial where nothing is left to do, and some tenants' books do not let anything be done there."""
    if seen.blocked:
        raise _partial([{"schema": schema, "migrations": []} for schema in seen.schemas], dict(seen.blocked))


def deploy(app: App, database: str | None, asked: Asked, seen: Preflight, tell: Callable[[str], None]) -> Record:
    """Apply what ``seen`` says is pending. ``tell`` hears what a configured command prints.

    Raises what the backup raises; ReverseRefused, ProofFailed; Refused when what is pending has changed meanwhile; Busy;
    DeployFailed; OutOfStep when the books say afterwards that not all is applied; Partial where it is so in some of several
    schemas; StorageError.
    """
    ways_back.known(seen, asked.allowed)
    request = {"database": seen.database, "schemas": seen.schemas, "pending": seen.pending}
    with ExitStack() as stack:
        stack.enter_context(exclusion.alone(app, seen.target.info, NAME))
        _close_interrupted(app, seen.database)
        journal = stack.enter_context(Journal.begin(app.state / "journal", NAME, request))
        applying = [Applying(app, database, seen.only(part), journal, tell) for part in seen.parts]
        work = _Work(app, database, asked, seen, journal, _begun(journal, seen), applying, {**seen.blocked})
        try:
            _run(work)
        except OpsError as error:
            error.recorded(work.record.record)
            raise
    return work.record


def _run(work: _Work) -> None:
    """With its journal ended and its record written, whatever comes of it."""
    try:
        with server_errors(work.seen.target.info, "deploying"):
            work.all()
    except (OpsError, KeyboardInterrupt) as error:
        known = error if isinstance(error, OpsError) else work.interrupted()
        work.record.error = known.as_dict()
        with suppress(OpsError):  # where even that cannot be written, what went wrong first is what people must hear
            work.journal.end(FAILED, error=known.text)
        raise known from None if known is not error else error.__cause__
    else:
        work.journal.end(DONE)
    finally:
        work.keep()


def _close_interrupted(app: App, database: str) -> None:
    """End the journals of deploys whose process is gone. Raises Busy when one is not."""
    folder = app.state / "journal"
    for each in journals.unfinished(folder, NAME):
        if each.request.get("database") == database:
            with Journal.resume(folder, NAME, each.id) as journal:
                journal.end(FAILED, error="its process was ended in the middle")


def _begun(journal: Journal, seen: Preflight) -> Record:
    begin = journal.events[0]
    migrations: list[dict[str, Any]] = [
        {"name": name, "state": "pending", "reverse": "none", "reason": "", "losses": [], "down": None, "seconds": None}
        for name in seen.pending
    ]
    before = {} if seen.fleet else dict(seen.parts[0].before)
    facts = (seen.database, seen.schema, begin["user"], begin["host"], begin["at"], before)
    return Record(journal.id, *facts, migrations, list(seen.dangers), list(seen.notes))


def _partial(done: Sequence[dict[str, Any]], failed: dict[str, OpsError]) -> Partial:
    """With what to type for the first of them: what stands in a tenant's way is mostly the same."""
    first = next(iter(failed.values()))
    hint = f"The others are done. {first.advice}\n  Then `invoke deploy --all-tenants` goes on with what is left."
    return Partial(done=list(done), failed=failed, hint=hint)


@dataclass
class _Work:
    app: App
    database: str | None
    asked: Asked
    seen: Preflight
    journal: Journal
    record: Record
    applying: list[Applying]
    failed: dict[str, OpsError]

    def all(self) -> None:
        with self._step("backup", "a backup, read to its end"):
            self._back_up()
        with self._step("reverse", "the reverse of every migration, proved"):
            self._keep(self._reverse())
        with self._step("look", "a second look: what is pending, who holds Prisma's lock"):
            self._same()
        with self._step("migrate", "the migrations"):
            self._migrate()
        with self._step("status", "Prisma's books afterwards"):
            self._look_after()
        if self.failed:
            fine = [each for each in self.applying if each.schema not in self.failed]
            raise _partial([{"schema": each.schema, "migrations": each.applied} for each in fine], self.failed)

    def interrupted(self) -> WorkInterrupted:
        """What it has come to, as far as that can be known."""
        steps = self.journal.steps()
        step = steps[-1]["name"] if steps else "begin"
        if step in ("backup", "reverse", "look"):
            return WorkInterrupted(reason=f"at its step {step}: nothing was deployed")
        problems = [problem for one in self.applying if (problem := one.read()) is not None]
        where = " in {}" if self.seen.fleet else ""
        states = [f"{name}{where.format(one.schema)}: {state}" for one in self.applying for name, state in one.states.items()]
        return WorkInterrupted(
            reason=f"at its step {step}; {problems[0].text if problems else ', '.join(states)}",
            hint="What the interrupted script had done may be there: `invoke status` shows the books. `invoke rollback"
            " --migration failed` goes back, `invoke resolve` mends the books, `invoke deploy` goes on with what is pending.",
        )

    def keep(self) -> None:
        """The record, whatever came of it."""
        record = self.record
        self._tell_record()
        record.outcome = self.journal.outcome or FAILED
        record.steps = self.journal.steps()
        record.seconds = round((clock.now() - clock.parse(record.began)).total_seconds(), 3)
        record.keep(self.app.state / "records")

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[None]:
        self.journal.note("step", name=name, state="begun")
        self.app.events.emit(f"{NAME}.step", name=name, text=text)
        began, state = clock.monotonic(), FAILED
        try:
            yield
            state = DONE
        finally:
            self.journal.note("step", name=name, state=state, seconds=round(clock.monotonic() - began, 3))

    # --- its steps ----------------------------------------------------------------------------------------------------

    def _back_up(self) -> None:
        if self.asked.no_backup:
            self.record.notes.append("no backup was taken before it: --no-backup")
            return
        began, target = clock.monotonic(), self.seen.target
        if self.asked.backup is not None:
            self.record.backup = ways_back.fresh(self.app, target, self.asked.backup).id
            return
        self.record.backup = ways_back.back_up(self.app, target, LABEL).id
        self.record.backup_seconds = round(clock.monotonic() - began, 3)

    def _reverse(self) -> list[Wanted]:
        found = ways_back.reverse(self.app, self.database, self.seen, self.asked.allowed, check=False)
        by_name = {each.migration: each for each in found}
        for entry in self.record.migrations:
            one = by_name[entry["name"]]
            entry |= {"reverse": one.status, "reason": one.reason, "losses": list(one.losses), "down": one.down}
            entry["proved_in"] = one.schema
        return [each.wanted for each in found if each.wanted is not None]

    def _keep(self, wanted: list[Wanted]) -> None:
        """Decide what is kept; it is read in the transactions of the migrations."""
        if self.asked.no_capture or not self.app.loaded.settings.capture.enabled:
            return
        self.record.notes += capture.reasons(self.app, wanted)
        able = capture.able(self.app, wanted)
        keeping = {
            one.schema: {each.migration: each.moved(one.schema) for each in able if each.migration in one.part.pending}
            for one in self.applying
        }
        every = [each for of in keeping.values() for each in of.values()]
        if not every:
            return
        with connect(self.seen.target.info, application_name="naap_ops deploy") as connection:
            found = capture.estimates(connection, every)
        capture.within_ceiling(self.app, found, asked_for=self.asked.capture)
        if trouble := capture.prepare(self.seen.target.info):
            self.record.notes.append(trouble)
            return
        for one in self.applying:
            one.keeping = keeping[one.schema]

    def _same(self) -> None:
        now = preflight(self.app, self.database, self.asked)
        if [(each.schema, *each.pending.items()) for each in now.parts] != [
            (each.schema, *each.pending.items()) for each in self.seen.parts
        ]:
            raise Refused(
                reason="what is pending, or its scripts, have changed since the look before: nothing was deployed",
                hint="Run `invoke deploy` again.",
            )

    def _migrate(self) -> None:
        self._each(lambda one: one.migrate(self.record.backup))

    def _look_after(self) -> None:
        returning.prune(self.seen.target.info, self.seen.expired)
        self._each(lambda one: one.look_after())

    def _each(self, act: Callable[[Applying], None]) -> None:
        """Schema after schema. What one fails on is kept, unless it is the only one."""
        stopped: OpsError | None = None
        for one in self.applying:
            if one.schema in self.failed:
                continue
            if stopped is not None:
                self.failed[one.schema] = Refused(reason=f"not gone on with: {stopped.text}", hint=stopped.advice)
                continue
            began = clock.monotonic()
            try:
                act(one)
            except OpsError as error:
                if len(self.applying) == 1 and not self.failed:
                    raise
                self.failed[one.schema] = error
                stopped = error if isinstance(error, _FOR_ALL) else None
            if len(self.applying) > 1:
                state = FAILED if one.schema in self.failed else DONE
                self.journal.note("tenant", name=one.schema, state=state, seconds=round(clock.monotonic() - began, 3))

    # --- the record ---------------------------------------------------------------------------------------------------

    def _tell_record(self) -> None:
        record, words = self.record, self.app.loaded.settings.deploy.command
        if any(each.status is not None for each in self.applying):
            record.command = redact.argv(words)
            record.status = max((each.status for each in self.applying if each.status is not None), key=abs)
        record.notes += [note for each in self.applying for note in each.notes]
        record.captured = [kept for each in self.applying for kept in each.captured]
        kept = {each["migration"] for each in record.captured}
        for one in self.applying:
            record.restored |= one.back.rows
            record.left += one.back.left
            record.leaving += one.back.leaving
        for entry in record.migrations:
            facts = {"captured": entry["name"] in kept, "backup": record.backup is not None}
            entry["losses"] = capture.foreseen(self.app, entry["losses"], **facts)
            there = [each for each in self.applying if entry["name"] in each.part.pending]
            states = [each.states[entry["name"]] for each in there]
            entry["state"] = next((state for state in _WORST if state in states), states[0])
            took = [each.seconds[entry["name"]] for each in there if entry["name"] in each.seconds]
            entry["seconds"] = round(sum(took), 3) if took else None
        if self.seen.fleet:
            record.tenants = [*map(self._tenant, self.applying), *map(_left_out, self.seen.blocked.items())]
        else:
            record.after = dict(self.applying[0].after)

    def _tenant(self, one: Applying) -> dict[str, Any]:
        error = self.failed.get(one.schema)
        done = one.applied == list(one.part.pending)
        state = "failed" if error is not None else "current" if not one.part.pending else "applied" if done else "waiting"
        return {
            "schema": one.schema,
            "state": state,
            "pending": list(one.part.pending),
            "applied": one.applied,
            "seconds": round(sum(one.seconds.values()), 3) if one.seconds else None,
            "error": error.as_dict() if error is not None else None,
        }


def _left_out(blocked: tuple[str, OpsError]) -> dict[str, Any]:
    schema, error = blocked
    return {"schema": schema, "state": "left_out", "pending": [], "applied": [], "seconds": None, "error": error.as_dict()}
