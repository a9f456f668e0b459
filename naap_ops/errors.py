"""Every failure the toolkit can report: one tree, one exit code per kind.

A class holds a message and a hint as templates; an instance fills them from its fields, so that the same facts reach the
screen, the JSON output and the tests. The table of exit codes is in DESIGN.md, section 6; a test holds both together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from naap_ops import redact
from naap_ops.wording import count_of


class OpsError(Exception):
    """Root of the tree. ``OpsError(**fields)`` fills ``message`` and ``hint``; texts are redacted."""

    exit_code: ClassVar[int] = 1
    name: ClassVar[str] = "internal"
    message: ClassVar[str] = "{detail}"
    hint: ClassVar[str] = ""
    record: str = ""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.text = redact.text(self.message.format(**fields))
        self.advice = redact.text(str(fields.get("hint") or self.hint.format(**fields)))
        super().__init__(self.text)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: ``error`` (class), ``code``, ``message``, ``hint``; ``record`` where one was written."""
        said = {"error": type(self).__name__, "code": self.exit_code, "message": self.text, "hint": self.advice}
        return {**said, "record": self.record} if self.record else said

    def recorded(self, path: str) -> None:
        """What was done up to the failure stands in the file ``path``; nothing where that is empty."""
        if path:
            self.record = path
            self.advise(f"What was done is recorded in {path}")

    def advise(self, line: str) -> None:
        """One more line of advice."""
        self.advice = "\n  ".join(each for each in (self.advice, line) if each)


class InternalError(OpsError):
    """A bug of ours. Fields: ``kind`` (class of the exception) and ``text``."""

    message = "{kind}: {text}\nThis is a bug of naap_ops."
    hint = "Run it again with NAAP_OPS_DEBUG=1 to see where, and report it."


# --- usage and settings -------------------------------------------------------------------------------------------


class UsageError(OpsError):
    exit_code = 2
    name = "usage"
    hint = "See the task's --help."


class ConfigurationError(OpsError):
    exit_code = 3
    name = "configuration"
    hint = "`invoke config` prints every setting and where it came from."


class UnusableUrl(ConfigurationError):
    """A database URL through which no dump is possible (pooled, Accelerate) or that cannot be parsed."""

    message = "{variable} cannot be used: {reason}"
    hint = "Set DIRECT_URL to the server's own address, e.g. postgresql://user:password@host:5432/database"


# --- the server ---------------------------------------------------------------------------------------------------


class ServerUnreachable(OpsError):
    exit_code = 4
    name = "unreachable"
    message = "cannot reach PostgreSQL at {address}: {reason}"
    hint = "Is the server running, and are host and port right? `invoke config` shows where they come from."


class AuthenticationFailed(OpsError):
    exit_code = 5
    name = "authentication"
    message = "PostgreSQL at {address} refused user {user}: {reason}"
    hint = "Check the password in the URL, PGPASSWORD or ~/.pgpass, and pg_hba.conf on the server."


class DatabaseMissing(OpsError):
    exit_code = 6
    name = "no_database"
    message = "database {database!r} does not exist on {address}"
    hint = "`psql -l` lists what is there."


class PrivilegeMissing(OpsError):
    exit_code = 7
    name = "privilege"
    message = "user {user} may not {action}"
    hint = "Grant it, or connect as a role that may."


class ToolMissing(OpsError):
    exit_code = 8
    name = "tools"
    message = "{tool} for PostgreSQL {major} was not found ({searched})"
    hint = (
        "Install postgresql-client-{major}, set tools.bindir, run it elsewhere through tools.exec, "
        "or `pip install 'naap-ops[embedded]'` for a server of major 16 or 18."
    )


class ProgramMissing(ToolMissing):
    """A configured command's program. Fields: ``program``; ``where`` it was looked for."""

    message = "{program}, which a setting names, was not found in {where}"
    hint = "Mend the setting (`invoke config` shows where it comes from), or take it out: then you are asked instead."


class ToolMismatch(OpsError):
    exit_code = 8
    name = "tools"
    message = "{tool} at {path} is version {found}, the server is {wanted}: {reason}"
    hint = "Set tools.bindir to the bin folder of PostgreSQL {wanted}."


class CapabilityMissing(OpsError):
    exit_code = 8
    name = "tools"
    message = "{tool} at {path} was built without {capability}"
    hint = "Use system tools (tools.bindir), or do without: {instead}"


# --- storage ------------------------------------------------------------------------------------------------------


class StorageError(OpsError):
    exit_code = 9
    name = "storage"
    message = "{url}: {reason}"
    hint = "Check that the folder exists, is mounted and writable, or give another --repo."


class NoSpace(OpsError):
    exit_code = 10
    name = "no_space"
    message = "no room left at {where}: {reason}"
    hint = "Free room there, or give another place; what was half-written has been removed."


class OutputLost(StorageError):
    """Fields: ``reason``. The task itself has done what it was to do."""

    message = "done, but what was printed is not whole: {reason}"
    hint = "Make room where the output goes. `invoke backup.list` shows the backups there are."


# --- backups ------------------------------------------------------------------------------------------------------


class BackupNotFound(OpsError):
    exit_code = 11
    name = "not_found"
    message = "no backup {ref!r} of {database} in {repository}"
    hint = "`invoke backup.list` shows what is there."


class PartNotFound(BackupNotFound):
    """The backup is there, the schema or table is not in it. Fields: ``id``, ``part``, ``hint``."""

    message = "backup {id} holds no {part}"
    hint = "`invoke backup.show {id}` lists what is in it."


class BackupAmbiguous(OpsError):
    exit_code = 12
    name = "ambiguous"
    message = "{ref!r} fits {count} backups: {candidates}"
    hint = "Give more of the id."


class MigrationNotFound(OpsError):
    """Fields: ``ref``; ``folder``, where it was looked for; ``what`` there is instead."""

    exit_code = 11
    name = "not_found"
    message = "no migration {ref!r} in {folder}"
    hint = "There are {what}."


class MigrationAmbiguous(OpsError):
    """Fields: ``ref``, ``count``, ``candidates``."""

    exit_code = 12
    name = "ambiguous"
    message = "{ref!r} fits {count} migrations: {candidates}"
    hint = "Give more of its name."


class BackupDamaged(OpsError):
    exit_code = 13
    name = "damaged"
    message = "backup {id} is damaged: {problems}"
    hint = "Do not rely on it. `invoke backup.list` shows the verified ones."


class NewerFormat(OpsError):
    exit_code = 14
    name = "newer_format"
    message = "backup {id} has manifest version {found}; this toolkit reads up to {known}"
    hint = "Upgrade naap-ops, or restore by hand: RESTORE.md beside the manifest says how."


# --- others in the way --------------------------------------------------------------------------------------------


class Busy(OpsError):
    exit_code = 15
    name = "busy"
    message = "{what} is already running: {holder}"
    hint = "Wait for it, or end it if it is dead; the lock goes with its session."


class Blocked(OpsError):
    exit_code = 16
    name = "blocked"
    message = "{what} gave up waiting: {blockers}"
    hint = (
        "End the blocking session (select pg_terminate_backend(pid)) or try again later. How long is waited: a backup's"
        " --lock-wait-timeout, a restore's setting restore.lock_timeout."
    )


class Refused(OpsError):
    """Not done because it could harm, or because the answer to a question was no."""

    exit_code = 17
    name = "refused"
    message = "{reason}"


class RowsUnfit(Refused):
    """Rows stand in the way that the state before a migration cannot hold, and nobody has said what becomes of them. Fields:
    ``lines`` (how many, of which table, and why), ``flags`` (a default for each that can have one), ``other`` (another way),
    ``unfit`` (as JSON)."""

    message = "rows do not fit the state before the migration, and somebody has to say what becomes of them:\n{lines}"
    hint = (
        "Choose: {flags}--park-rows, which keeps them aside whole, with all that refers to them, until it is applied again."
        "{other}"
    )

    def as_dict(self) -> dict[str, Any]:
        """With the rows."""
        return {**super().as_dict(), "unfit": self.fields.get("unfit")}


class ReverseRefused(OpsError):
    """No reverse can be given. Fields: ``reason``."""

    exit_code = 18
    name = "reverse_refused"
    message = "{reason}"


class ProofFailed(OpsError):
    """A reverse failed its proof, or could not be proved. Fields: ``reason``."""

    exit_code = 19
    name = "proof_failed"
    message = "{reason}"


class MigrationUnreadable(ReverseRefused):
    """A file that is no script of PostgreSQL's SQL. Fields: ``name``, ``line`` (from 1), ``reason``, ``excerpt`` (may be
    empty)."""

    name = "reverse_refused"
    message = "{name}, line {line}: {reason}\n{excerpt}"
    hint = "Nothing was run. Check the file with the server's own words: psql -f, in a scratch database."


class ForwardFailed(ReverseRefused):
    """A migration failed on the shadow. Fields: ``name``, ``statement`` (from 1), ``line``, ``sql``, ``reason``, ``sqlstate``,
    ``applied`` (statements before it whose effect is committed), ``relation`` (the table that the server named, or None)."""

    message = "{name} does not run on the shadow: statement {statement} (line {line}) failed: {reason}\n{excerpt}\n{before}"
    hint = "The shadow's starting state must be the one that the migration was written for: --from live, backup or history."

    def __init__(
        self,
        name: str,
        statement: int,
        line: int,
        sql: str,
        reason: str,
        sqlstate: str,
        applied: int,
        relation: tuple[str, str] | None = None,
    ) -> None:
        before = f"{count_of(applied, 'statement') if applied else 'Nothing'} before it had been committed."
        super().__init__(
            name=name,
            statement=statement,
            line=line,
            sql=sql,
            reason=reason,
            sqlstate=sqlstate,
            applied=applied,
            relation=relation,
            excerpt=sql if len(sql) <= 300 else sql[:300] + " ...",
            before=before,
        )


class ShadowSpoiled(OpsError):
    """A shadow is in no known state any more and has to be made anew. Fields: ``reason``; caught by whoever owns the shadow."""

    exit_code = 19
    name = "proof_failed"
    message = "the reverse stopped half-way on the shadow, outside a transaction: {reason}"


class Findings(OpsError):
    """What `lint` found and nobody allowed. Fields: ``count`` (in words) and ``files``."""

    exit_code = 22
    name = "findings"
    message = "{count} in {files}"
    hint = "Mend the migration, or allow a finding by its name: --allow NAME, or the setting lint.allow."


# --- Prisma's books -----------------------------------------------------------------------------------------------


class PrismaProjectNotFound(ConfigurationError):
    """No Prisma project, or several of them. Fields: ``detail``."""

    message = "{detail}"
    hint = "Say where with --project FOLDER or the setting prisma.root: the folder in which `npx prisma migrate` is run."


class PrismaUnsupported(Refused):
    """Migrations of Prisma 8, whose books are others. Fields: ``where``."""

    message = (
        "{where} is of Prisma 8, which keeps its books in schema prisma_contract; naap_ops knows those of Prisma 5, 6 and 7"
    )
    hint = "Prisma 8 goes back by a new migration: `prisma migration plan --to <folder>^`. Backups and restores work with it."


class OutOfStep(OpsError):
    """Folder and database do not agree on what is applied: what `invoke status` exits with. Fields: ``reason``."""

    exit_code = 23
    name = "out_of_step"
    message = "{reason}"
    hint = "`invoke status` says which migrations, and what to do."


# --- procedures ---------------------------------------------------------------------------------------------------


class ProcedureMissing(OpsError):
    """There is none to go on with. Fields: ``procedure``, ``ref`` (or ""), ``folder``."""

    exit_code = 11
    name = "not_found"
    message = "no {procedure} {ref!r} is unfinished in {folder}"
    hint = "Nothing is left to resume or to abort there; journals are in the folder `journal` of the setting `state`."


class ProcedureUnfinished(Refused):
    """One was interrupted and must be ended first. Fields: ``procedure``, ``ids``."""

    message = "unfinished: {ids}"
    hint = "First `invoke {procedure} --resume ID` to go on with it, or --abort ID to undo it."


# --- tools that failed --------------------------------------------------------------------------------------------


class CommandFailed(OpsError):
    """A client tool failed. Fields: ``tool``, ``argv`` (redacted), ``status``, ``stderr`` (its tail)."""

    exit_code = 20
    name = "command_failed"
    message = "{tool} failed with status {status}: {stderr}"
    hint = "The command was: {argv}"


_WHOLE, _SHOWN = 3, 12
_HEAD, _TAIL = 160, 80


class Partial(OpsError):
    """Some of several. Fields: ``done`` (the JSON objects of those that succeeded) and ``failed`` (errors by name).

    Of many failures the message has beginning and end of each, of very many the first dozen; ``as_dict`` has all of it.
    """

    exit_code = 21
    name = "partial"
    message = "{count} of {total} failed: {which}"
    hint = "The others are done. Run again for the failed ones."

    def __init__(self, *, done: list[dict[str, Any]], failed: dict[str, OpsError], hint: str = "") -> None:
        few = len(failed) <= _WHOLE
        told = [f"{name}: {error.text if few else _short(error.text)}" for name, error in failed.items()]
        left = len(told) - _SHOWN
        which = "; ".join([*told[:_SHOWN], *([f"and {left} more"] if left > 0 else [])])
        super().__init__(done=done, failed=failed, count=len(failed), total=len(failed) + len(done), which=which, hint=hint)

    def as_dict(self) -> dict[str, Any]:
        """With ``done`` and ``failed``, so that a script knows what it has."""
        failed = {name: error.as_dict() for name, error in self.fields["failed"].items()}
        return {**super().as_dict(), "done": self.fields["done"], "failed": failed}


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _HEAD + _TAIL else f"{words[:_HEAD]} ... {words[-_TAIL:]}"


class Interrupted(OpsError):
    exit_code = 130
    name = "interrupted"
    message = "interrupted; what was half-done has been undone"


class ProcedureInterrupted(Interrupted):
    """In the middle of a procedure of steps, which is left where it is. Fields: ``procedure``, ``id``, ``step``."""

    message = "{procedure} {id} was interrupted at its step {step}"
    hint = "`invoke {procedure} --resume {id}` goes on with it, --abort {id} undoes it."


class WorkInterrupted(Interrupted):
    """In the middle of what is not undone by itself. Fields: ``reason``: what is done and what is not."""

    message = "interrupted: {reason}"


def tree(root: type[OpsError] = OpsError) -> list[type[OpsError]]:
    """Every class of the tree, depth first."""
    return [root, *(c for child in root.__subclasses__() for c in tree(child))]
