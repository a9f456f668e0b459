"""What every task has in common: shared flags, human text and JSON, questions, exit codes.

A task's body gets a :class:`Call` and returns the object that ``--json`` prints. Failures are OpsError and become exit codes
here and nowhere else.
"""

from __future__ import annotations

import functools
import inspect
import json as jsonlib
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from naap_ops import redact
from naap_ops.errors import InternalError, Interrupted, OpsError, Refused
from naap_ops.events import Event, Events

if TYPE_CHECKING:
    from naap_ops.app import App
    from naap_ops.backup.repository import Backup
    from naap_ops.listeners.delivery import Audience
    from naap_ops.outcomes import Job

_SHORT = {"yes": "y", "database": "d", "jobs": "j", "quiet": "q"}

_PAIRS = {"from_diff"}

_COMMON: dict[str, tuple[Any, str]] = {
    "json": (False, "print one JSON object as the last line of stdout; human text goes to stderr"),
    "quiet": (False, "say nothing but errors"),
    "settings": (None, "settings file instead of naap_ops.toml or pyproject.toml"),
    "repo": (None, "where backups live: a folder or s3://bucket/prefix (setting `repository`)"),
    "database": (None, "a configured database, or the name of the one in the URL"),
    "url": (None, "connect with this URL instead of DIRECT_URL, DATABASE_URL, PG*"),
    "yes": (False, "answer yes to every question"),
}


class Call:
    """One invocation: its flags, its voice, and the application made from them."""

    def __init__(self, flags: dict[str, Any]) -> None:
        self.json: bool = flags["json"]
        self.quiet: bool = flags["quiet"]
        self.yes: bool = flags.get("yes", False)
        self.database: str | None = flags.get("database")
        self.url: str | None = flags.get("url")
        self._flags = flags
        self._overrides: dict[str, Any] = {}
        self._terse = False
        self.events = Events()
        self.exit_code = 0
        self.words: list[str] = []  # what stands behind ``--``
        self.failure_code: int | None = None  # where a task has exit codes of its own: that of every failure
        self.running = ExitStack()
        self._job: Job | None = None
        self._audience: Audience | None = None

    def unattended(self) -> None:
        """Under cron nothing is said when all is well, and one line when not."""
        self._terse = not sys.stdout.isatty()
        self.quiet = self.quiet or (self._terse and not self.json)

    def flag(self, name: str) -> Any:
        """A common flag as it was given."""
        return self._flags.get(name)

    def override(self, **settings: Any) -> None:
        """Flags of this task that are settings: ``backup_jobs=4`` is ``backup.jobs``."""
        self._overrides |= {name.replace("__", "."): value for name, value in settings.items()}

    @functools.cached_property
    def app(self) -> App:
        """The application, made from the settings at first use."""
        from naap_ops.app import App

        flags = {"repository": self._flags.get("repo"), "database_url": self._flags.get("url"), **self._overrides}
        file = self._flags.get("settings")
        return App.load(flags, settings_file=Path(file) if file else None, events=self.events)

    # --- what listeners hear ----------------------------------------------------------------------------------------

    def begin(self, job: str, *, several: bool = False) -> None:
        """From here on this is a job: listeners hear that it began, and how it ended. ``several``: of all databases."""
        if self._job is not None:
            return
        from naap_ops.outcomes import Job

        self._audience = self.app.listen(self.complain)
        database = None if several else self.app.alias(self.database)
        self._job = self.running.enter_context(Job(self.app, job, database, listening=bool(self._audience)))

    def part(self, database: str | None) -> AbstractContextManager[None]:
        """One database of several."""
        return nullcontext() if self._job is None else self._job.part(database)

    def report(self, backup: Backup | None = None, **facts: Any) -> None:
        """What the outcome shall tell: the backup it is about, and fields of JobOutcome."""
        if self._job is not None:
            self._job.report(backup, **facts)

    def hear_out(self) -> None:
        """Wait, but not for long, until everybody has been told."""
        if self._audience is not None:
            self._audience.close()

    # --- its voice --------------------------------------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        """Whether somebody sees a progress bar."""
        return sys.stderr.isatty() and not self.quiet

    def say(self, text: str) -> None:
        """A result for people: stdout, or stderr when stdout is for JSON."""
        if not self.quiet:
            _print(redact.text(text), sys.stderr if self.json else sys.stdout)

    def note(self, text: str) -> None:
        """A remark along the way, always on stderr."""
        if not self.quiet:
            _print(redact.text(text), sys.stderr)

    def tell_steps(self, *names: str) -> None:
        """Remark on those steps of the work as they come, whether anybody watches a bar or not."""

        def told(event: Event) -> None:
            if event.data.get("name") in names:
                self.note(str(event.data["text"]))

        self.events.subscribe(told)

    def insist(self, text: str) -> None:
        """A result that must be seen even when quiet."""
        _print(redact.text(text), sys.stderr if self.json else sys.stdout)

    def explain(self, error: OpsError) -> None:
        """A failure and what to do about it, on stderr."""
        text, advice = f"naap_ops: {error.text}", error.advice
        if self._terse:
            _print(" ".join(f"{text.rstrip('.')}. {advice}".split()), sys.stderr)
            return
        _print(text, sys.stderr)
        if advice:
            _print(f"  {advice}", sys.stderr)

    def complain(self, text: str) -> None:
        """What must be said even when quiet, on stderr."""
        _print(redact.text(text), sys.stderr)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns aligned, numbers to the right (a column whose name ends in a space)."""
        self.say(aligned(columns, rows))

    def confirm_name(self, what: str, name: str, plan: Sequence[str] = ()) -> None:
        """Show the ``plan`` and have ``name`` typed. Raises Refused at another answer, or when nobody can be asked."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise Refused(
                reason=f"{what} wants its name typed, and there is no terminal to ask at: nothing was done",
                hint="Give --yes to do it unasked; --dry-run, where there is one, says what would be done.",
            )
        shown = "".join(redact.text(line) + "\n" for line in plan)
        print(f"{shown}Type {name} to go on: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().rstrip("\n") != name:
            raise Refused(reason="the name typed is another: nothing was done")


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table. A column whose heading starts with a space is aligned to the right."""
    table = [list(columns), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    right = [heading.startswith(" ") for heading in columns]
    lines = [
        "  ".join(cell.strip().rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join(lines)


class OpsTask(Task):  # type: ignore[type-arg]
    """A task with fixed short flags (Invoke's automatic ones change whenever a flag is added)."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        texts = dict(self.help)
        arguments = super().get_arguments(ignore_unknown_help)
        self.help = texts  # Invoke takes them out as it goes; they may be asked for again
        for argument in arguments:
            if argument.name in _SHORT:
                argument.names = (argument.name, _SHORT[argument.name])
        return [_Pair(argument) if argument.name in _PAIRS else argument for argument in arguments]


class _Pair(Argument):
    """A flag with two values. To Invoke it is a repeatable one that wants, as soon as it has one, another word for itself."""

    def __init__(self, flag: Argument) -> None:
        super().__init__(names=flag.names, kind=list, help=flag.help, attr_name=flag.attr_name, positional=True)
        self._value: list[str] = []

    @property
    def value(self) -> Any:
        return None if len(self._value) == 1 else self._value

    @value.setter
    def value(self, arg: str) -> None:
        self.raw_value = arg
        self._value = [*self._value, arg]


def command(
    *,
    name: str | None = None,
    of_namespace: bool = False,
    lists: Sequence[str] = (),
    optional: Sequence[str] = (),
    without: Sequence[str] = (),
    **help: str,
) -> Callable[[Callable[..., dict[str, Any]]], OpsTask]:
    """Make a task of ``body(call, **own flags) -> JSON object``. ``of_namespace``: it is what the name of its namespace alone
    runs. ``without`` drops common flags; ``help`` is per own flag.

    ``lists`` may be given several times; ``optional`` ones may stand without a value, and are then True.
    """

    def decorate(body: Callable[..., dict[str, Any]]) -> OpsTask:
        common = {flag: spec for flag, spec in _COMMON.items() if flag not in without}

        @functools.wraps(body)
        def run(context: Any, **flags: Any) -> None:
            if {"--help", "-h"} & {value for value in flags.values() if isinstance(value, str)}:
                _help(task)
                return
            call = Call({"json": False, "quiet": False} | {flag: flags.pop(flag) for flag in common})
            call.words = _words_behind_dashes(getattr(context, "remainder", ""))
            _execute(call, functools.partial(body, call, **flags))

        own = list(inspect.signature(body).parameters.values())[1:]
        shared = [inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=value) for flag, (value, _) in common.items()]
        plain = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty) for p in own]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([first, *plain, *shared])  # type: ignore[attr-defined]
        texts = {flag: text for flag, (_, text) in common.items()}
        texts |= help
        task = OpsTask(
            run,
            name=name,
            default=of_namespace,
            iterable=list(lists),
            optional=list(optional),
            auto_shortflags=False,
            help=texts,
        )
        return task

    return decorate


def _words_behind_dashes(remainder: str) -> list[str]:
    """The words behind ``--``. Invoke joins them by spaces; the process's own arguments still know their borders."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    return words if " ".join(words) == remainder else shlex.split(remainder)


def _help(task: OpsTask) -> None:
    """Print the task's help: Invoke takes a ``--help`` behind a task that wants a word for that word."""
    from invoke.program import Program

    from naap_ops.tasks import ns

    program = Path(sys.argv[0]).name or "invoke"
    [name] = [name for name in ns.task_names if ns[name] is task]
    Program(name=program, binary=program, namespace=ns).run([program, "--help", name], exit=False)


def _execute(call: Call, body: Callable[[], dict[str, Any]]) -> None:
    """Perform the task, and wait for its listeners when everything else is done and said: its outcome does not hang on them."""
    try:
        _perform(call, body)
    finally:
        with _terminable(), suppress(KeyboardInterrupt):
            call.hear_out()


def _perform(call: Call, body: Callable[[], dict[str, Any]]) -> None:
    """Run the body; print its JSON; turn failures into exit codes."""
    try:
        with _terminable(), call.running:
            result = body()
    except OpsError as error:
        _fail(call, error)
    except KeyboardInterrupt:
        _fail(call, Interrupted())
    except Exception as error:  # noqa: BLE001 - nothing is swallowed: it becomes exit code 1
        if os.environ.get("NAAP_OPS_DEBUG") == "1":
            _print(redact.text(traceback.format_exc()), sys.stderr)
        _fail(call, InternalError(kind=type(error).__name__, text=error))
    if call.json:
        _print_json(result)
    if call.exit_code:
        raise Exit(code=call.exit_code)


def _fail(call: Call, error: OpsError) -> NoReturn:
    call.explain(error)
    if call.json:
        _print_json(error.as_dict())
    raise Exit(code=call.failure_code or error.exit_code)


def _print_json(result: dict[str, Any]) -> None:
    _print(jsonlib.dumps(result, ensure_ascii="utf" not in (sys.stdout.encoding or "").lower(), default=str), sys.stdout)


def _print(text: str, stream: TextIO) -> None:
    """Print what the stream can show of ``text``. A reader who has left (``| head``) does not end the work."""
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work as Ctrl-C does, so that what is half-made is removed."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    # What the caller has set to be ignored stays so: nohup.
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
