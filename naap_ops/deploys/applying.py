"""One schema's share of a deploy: the migrations by the configured command or the built-in, and its books afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from naap_ops import redact
from naap_ops.app import App
from naap_ops.deploys import failure, returning
from naap_ops.deploys.capture import Capturing, Wanted, one_transaction
from naap_ops.deploys.preflight import Part, Preflight, states
from naap_ops.deploys.returning import Beside
from naap_ops.errors import CommandFailed, OpsError, OutOfStep
from naap_ops.exclusion import INSIDE
from naap_ops.postgres.session import connect
from naap_ops.postgres.url import to_url
from naap_ops.prisma import applier
from naap_ops.procedure import command
from naap_ops.restore.failures import server_errors
from naap_ops.reverse import files
from naap_ops.reverse.images.unparking import Back, apart

if TYPE_CHECKING:
    from naap_ops.procedure.journal import Journal


@dataclass
class Applying:
    """``seen``: of this schema alone. ``tell`` hears what a configured command prints. Afterwards ``after`` has every
    migration's state, ``seconds`` how long each took where the built-in applied it, ``status`` the command's exit.

    ``keeping``: by migration, what is kept of its rows; ``captured``: what was, ``migration, table, rows, bytes``. ``back``:
    what was parked by a rollback, and came back.
    """

    app: App
    database: str | None
    seen: Preflight
    journal: Journal
    tell: Callable[[str], None]
    after: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    status: int | None = None
    notes: list[str] = field(default_factory=list)
    keeping: dict[str, Wanted] = field(default_factory=dict)
    captured: list[dict[str, Any]] = field(default_factory=list)
    back: Back = field(default_factory=Back)

    @property
    def part(self) -> Part:
        [part] = self.seen.parts
        return part

    @property
    def schema(self) -> str:
        return self.part.schema

    @property
    def states(self) -> dict[str, str]:
        """What has become of what was pending."""
        return {name: self.after.get(name, "absent") if self.after else "pending" for name in self.part.pending}

    @property
    def applied(self) -> list[str]:
        return [name for name, state in self.states.items() if state == "applied"]

    def migrate(self, backup: str | None) -> None:
        """Apply what is pending. Raises DeployFailed, and what the applier and the command raise."""
        if not self.part.pending:
            return
        try:
            if self.app.loaded.settings.deploy.command:
                self._by_command()
            else:
                self._by_ourselves()
        except CommandFailed as error:
            self._bring_what_can_be()
            self.read()
            raise failure.explained(self.app, self.database, error, self.seen, backup) from error
        except OpsError:
            self._bring_what_can_be()
            self.read()
            raise
        self._bring_the_rest()

    def _bring_what_can_be(self) -> None:
        """Of what was applied before it failed; that it failed is what people must hear."""
        with suppress(OpsError, psycopg.Error):
            self._bring_the_rest()

    def _bring_the_rest(self) -> None:
        """Of migrations that did not share their transaction."""
        if waiting := dict.fromkeys(each.migration for each in self.seen.parked if each.migration not in self._shared()):
            self.back.add(returning.late(self.seen.target.info, self.schema, waiting))

    def _shared(self) -> frozenset[str]:
        """Those that bring back what is parked in their own transaction."""
        if self.app.loaded.settings.deploy.command:
            return frozenset()
        scripts = {each.name: each for each in files.in_folder(self.seen.project.migrations)}
        names = {each.migration for each in self.seen.parked}
        parsed = {name: scripts[name].script() for name in names if name in scripts}
        return frozenset(name for name, script in parsed.items() if one_transaction(script) and not apart(script))

    def _by_ourselves(self) -> None:
        chosen = self.app.loaded.settings.capture
        limits = chosen.lock_timeout.total_seconds(), chosen.expires
        capturing = Capturing(self.seen.target.info, self.schema, self.keeping, *limits)
        beside = Beside(capturing, self._shared())
        try:
            self._applied_beside(beside)
        finally:
            for each in beside.back.values():
                self.back.add(each)
            self.captured = [
                {"migration": name, "table": ".".join(each.keep.relation), "rows": each.rows, "bytes": each.bytes}
                for name, images in capturing.taken.items()
                for each in images
            ]

    def _applied_beside(self, beside: Beside) -> None:
        seen, seconds = self.seen, self.app.loaded.settings.prisma.lock_timeout.total_seconds()
        done = applier.deploy(
            seen.target.info,
            seen.project,
            self.app.events,
            schema=self.schema,
            lock_seconds=seconds,
            only=list(self.part.pending),
            beside=beside,
        )
        self.seconds = {each.name: each.seconds for each in done}
        self.after = dict.fromkeys(self.seconds, "applied")  # until the books are read: an interruption may come before

    def _by_command(self) -> None:
        settings = self.app.loaded.settings.deploy
        finished = self._run(settings.command)
        self.status = finished.status
        if finished.status or finished.late:
            raise _failed(settings.command, finished, settings.timeout.total_seconds())

    def look_after(self) -> None:
        """Raises OutOfStep unless all that was pending is applied, and the configured status command agrees."""
        if problem := self.read():
            raise problem
        if not self.part.pending:
            return
        missing = [name for name, state in self.states.items() if state != "applied"]
        if missing:
            raise OutOfStep(reason=f"the deploy ended well, and in Prisma's books these are not applied: {', '.join(missing)}")
        words = self.app.loaded.settings.deploy.status
        if words and (finished := self._run(words)).status:
            raise OutOfStep(reason=f"all is applied, but {Path(words[0]).name} ends with {finished.status}: {finished.tail}")

    def read(self) -> OpsError | None:
        """What is applied now. Why that is not known, None when it is."""
        try:
            info = self.seen.target.info
            with server_errors(info, "looking"), connect(info, application_name="naap_ops deploy") as connection:
                self.after = states(connection, self.seen.project, self.schema)
        except OpsError as error:
            self.notes.append(f"what is applied now is not known: {error.text}")
            return error
        return None

    def _run(self, words: list[str]) -> command.Finished:
        """With the URL of this schema, whose ``?schema=`` is where Prisma keeps its books."""
        url = to_url(replace(self.seen.target.info, schema=self.schema))
        timeout = self.app.loaded.settings.deploy.timeout.total_seconds()
        env = {"DATABASE_URL": url, "DIRECT_URL": url, INSIDE: self.seen.database}
        finished = command.run(words, cwd=self.seen.project.root, env=env, timeout=timeout, tell=self.tell)
        facts = {"schema": self.schema, "argv": redact.argv(words), "status": finished.status, "seconds": finished.seconds}
        self.journal.note("command", **facts)
        return finished


def _failed(words: list[str], finished: command.Finished, timeout: float) -> CommandFailed:
    late = f"\nIt was ended after {timeout:g} s (setting deploy.timeout)." if finished.late else ""
    said = (finished.tail or "(it said nothing)") + late
    return CommandFailed(tool=Path(words[0]).name, argv=" ".join(redact.argv(words)), status=finished.status, stderr=said)
