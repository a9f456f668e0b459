"""A guarded deploy, start to end: backup, reverses, a second look, the migrations, the books afterwards, the record.

Nothing of it is gone on with after a crash: the next deploy looks anew, and what is applied by then is not pending any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from naap_ops import clock, exclusion, redact
from naap_ops.app import App
from naap_ops.deploys import failure, ways_back
from naap_ops.deploys.preflight import Preflight, look, states
from naap_ops.deploys.record import Record
from naap_ops.errors import CommandFailed, OpsError, OutOfStep, Refused, WorkInterrupted
from naap_ops.exclusion import INSIDE
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.prisma import applier
from naap_ops.procedure import command
from naap_ops.procedure import journal as journals
from naap_ops.procedure.journal import DONE, FAILED, Journal
from naap_ops.restore.failures import server_errors

NAME: Final = "deploy"
LABEL: Final = "pre_deploy"


@dataclass(frozen=True)
class Asked:
    """What the flags say. ``backup``: this one instead of a new one; ``allowed``: names that need no proved reverse."""

    backup: str | None = None
    no_backup: bool = False
    allowed: tuple[str, ...] = ()


def deploy(app: App, database: str | None, asked: Asked, seen: Preflight, tell: Callable[[str], None]) -> Record:
    """Apply what ``seen`` says is pending. ``tell`` hears what a configured command prints.

    Raises what the backup raises; ReverseRefused, ProofFailed; Refused when what is pending has changed meanwhile; Busy;
    DeployFailed; OutOfStep when the books say afterwards that not all is applied; StorageError.
    """
    ways_back.known(seen, asked.allowed)
    request = {"database": seen.database, "schema": seen.schema, "pending": dict(seen.pending)}
    with ExitStack() as stack:
        stack.enter_context(exclusion.alone(app, seen.target.info, NAME))
        _close_interrupted(app, seen.database)
        journal = stack.enter_context(Journal.begin(app.state / "journal", NAME, request))
        work = _Work(app, database, asked, seen, journal, _begun(journal, seen), tell)
        try:
            with server_errors(seen.target.info, "deploying"):
                work.all()
        except (OpsError, KeyboardInterrupt) as error:
            known = error if isinstance(error, OpsError) else work.interrupted()
            work.record.error = known.as_dict()
            with suppress(OpsError):  # where even that cannot be written, what went wrong first is what people must hear
                journal.end(FAILED, error=known.text)
            raise known from None if known is not error else error.__cause__
        else:
            journal.end(DONE)
        finally:
            work.keep()
    return work.record


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
    facts = (seen.database, seen.schema, begin["user"], begin["host"], begin["at"], dict(seen.before))
    return Record(journal.id, *facts, migrations, list(seen.dangers), list(seen.notes))


@dataclass
class _Work:
    app: App
    database: str | None
    asked: Asked
    seen: Preflight
    journal: Journal
    record: Record
    tell: Callable[[str], None]

    def all(self) -> None:
        with self._step("backup", "a backup, read to its end"):
            self._back_up()
        with self._step("reverse", "the reverse of every migration, proved"):
            self._reverse()
        with self._step("look", "a second look: what is pending, who holds Prisma's lock"):
            self._same()
        with self._step("migrate", "the migrations"):
            self._migrate()
        with self._step("status", "Prisma's books afterwards"):
            self._look_after()

    def interrupted(self) -> WorkInterrupted:
        """What it has come to, as far as that can be known."""
        steps = self.journal.steps()
        step = steps[-1]["name"] if steps else "begin"
        if step in ("backup", "reverse", "look"):
            return WorkInterrupted(reason=f"at its step {step}: nothing was deployed")
        problem = self._read_after()
        states = [f"{each['name']}: {each['state']}" for each in self.record.migrations]
        return WorkInterrupted(
            reason=f"at its step {step}; {problem.text if problem else ', '.join(states)}",
            hint="What the interrupted script had done may be there: `invoke status` shows the books. `invoke rollback"
            " --migration failed` goes back, `invoke resolve` mends the books, `invoke deploy` goes on with what is pending.",
        )

    def keep(self) -> None:
        """The record, whatever came of it."""
        record = self.record
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

    def _reverse(self) -> None:
        found = ways_back.reverse(self.app, self.database, self.seen, self.asked.allowed, check=False)
        by_name = {each.migration: each for each in found}
        for entry in self.record.migrations:
            one = by_name[entry["name"]]
            entry |= {"reverse": one.status, "reason": one.reason, "losses": list(one.losses), "down": one.down}

    def _same(self) -> None:
        now = look(self.app, self.database)
        if list(now.pending.items()) != list(self.seen.pending.items()):
            raise Refused(
                reason="what is pending, or its scripts, have changed since the look before: nothing was deployed",
                hint="Run `invoke deploy` again.",
            )

    def _migrate(self) -> None:
        try:
            if self.app.loaded.settings.deploy.command:
                self._by_command()
            else:
                self._by_ourselves()
        except CommandFailed as error:
            self._read_after()
            raise failure.explained(error, self.seen, self.record.backup) from error
        except OpsError:
            self._read_after()
            raise

    def _by_ourselves(self) -> None:
        seconds = self.app.loaded.settings.prisma.lock_timeout.total_seconds()
        done = applier.deploy(
            self.seen.target.info,
            self.seen.project,
            self.app.events,
            schema=self.seen.schema,
            lock_seconds=seconds,
            only=list(self.seen.pending),
        )
        took = {each.name: each.seconds for each in done}
        for entry in self.record.migrations:
            entry["seconds"] = took.get(entry["name"])

    def _by_command(self) -> None:
        settings = self.app.loaded.settings.deploy
        finished = self._run(settings.command)
        self.record.command, self.record.status = redact.argv(settings.command), finished.status
        if finished.status or finished.late:
            raise _failed(settings.command, finished, settings.timeout.total_seconds())

    def _look_after(self) -> None:
        """Raises OutOfStep unless all that was pending is applied, and the configured status command agrees."""
        if problem := self._read_after():
            raise problem
        missing = [each["name"] for each in self.record.migrations if each["state"] != "applied"]
        if missing:
            raise OutOfStep(reason=f"the deploy ended well, and in Prisma's books these are not applied: {', '.join(missing)}")
        words = self.app.loaded.settings.deploy.status
        if words and (finished := self._run(words)).status:
            raise OutOfStep(reason=f"all is applied, but {Path(words[0]).name} ends with {finished.status}: {finished.tail}")

    def _read_after(self) -> OpsError | None:
        """What is applied now goes into the record. Why it is not known, None when it is."""
        info = self.seen.target.info
        try:
            with server_errors(info, "looking"), connect(info, application_name="naap_ops deploy") as connection:
                self.record.after = states(connection, self.seen.project, self.seen.schema)
        except OpsError as error:
            self.record.notes.append(f"what is applied now is not known: {error.text}")
            return error
        for entry in self.record.migrations:
            entry["state"] = self.record.after.get(entry["name"], "absent")
        return None

    def _run(self, words: list[str]) -> command.Finished:
        url = to_url(self.seen.target.info)
        timeout = self.app.loaded.settings.deploy.timeout.total_seconds()
        env = {"DATABASE_URL": url, "DIRECT_URL": url, INSIDE: self.seen.database}
        finished = command.run(words, cwd=self.seen.project.root, env=env, timeout=timeout, tell=self.tell)
        self.journal.note("command", argv=redact.argv(words), status=finished.status, seconds=finished.seconds)
        return finished


def _failed(words: list[str], finished: command.Finished, timeout: float) -> CommandFailed:
    late = f"\nIt was ended after {timeout:g} s (setting deploy.timeout)." if finished.late else ""
    said = (finished.tail or "(it said nothing)") + late
    return CommandFailed(tool=Path(words[0]).name, argv=" ".join(redact.argv(words)), status=finished.status, stderr=said)
