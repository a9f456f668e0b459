"""`invoke reverse` and what belongs to it: prove, history, catalog."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from naap_ops.errors import UsageError
from naap_ops.tasks.command import Call, command
from naap_ops.tasks.flags import number, one_of
from naap_ops.tasks.progress import progress

if TYPE_CHECKING:
    from naap_ops.reverse.history import Entry
    from naap_ops.reverses import Made, Wanted

_FLAGS: dict[str, Any] = {
    "migration": "a migration's name, `latest`, or a unique beginning or part of one",
    "migrations": "the folder of migrations (setting reverse.migrations)",
    "from_": "starting state: live, backup[:ID], history or empty; by default live where it is still to come, else history",
    "schema": "what unqualified names mean; by default the URL's ?schema=, else public",
    "templates": "a folder of templates that go before the package's (setting reverse.templates)",
    "shadow_server": "where it is tried: auto, embedded, beside or url (setting reverse.shadow)",
}


@command(
    name="run",
    of_namespace=True,
    without=("yes",),
    **_FLAGS,
    file="an SQL file instead; the reverse goes beside it as <stem>.down.sql",
    pending="every migration that is still to come, in order",
    from_diff="instead of a migration, two states BEFORE and AFTER: each a URL, `live` or a file of reverse.catalog",
    out="with --from-diff: the file to write, instead of printing it",
    check="write nothing, only say",
    no_proof="do not prove it: what comes out is unproved, and says so",
    force="overwrite a down.sql that was edited by hand",
)
def run(
    call: Call,
    migration: str | None = None,
    file: str | None = None,
    pending: bool = False,
    from_diff: list[str] | None = None,
    out: str | None = None,
    migrations: str | None = None,
    from_: str | None = None,
    schema: str | None = None,
    templates: str | None = None,
    shadow_server: str | None = None,
    check: bool = False,
    no_proof: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """
    Write the reverse of a migration, down.sql beside migration.sql, proved on a shadow database, with every loss said.

    Exit codes: 0 proved, 18 refused, 19 its proof failed or was not possible. The live database is not touched.

    Example: invoke reverse --migration 20261121_add_wallet
    """
    from naap_ops import reverses
    from naap_ops.reverse import files

    what = one_of({"migration": migration, "file": file, "pending": pending, "from_diff": from_diff})
    call.override(reverse__templates=templates, reverse__shadow=shadow_server)
    wanted = _wanted(call, schema, from_, proof=not no_proof, check=check, force=force)
    if what == "from_diff":
        return _difference(call, wanted, list(from_diff or []), Path(out) if out else None)
    there = reverses.live(call.app, wanted)
    if file is not None:
        chosen = files.single(Path(file))
        with progress(call):
            return _one(call, reverses.one(call.app, wanted, chosen, _history(call, migrations), there))
    folder = reverses.folder(call.app, migrations)
    all_of = files.in_folder(folder)
    if migration is not None:
        chosen = files.pick(all_of, migration, folder)
        with progress(call):
            return _one(call, reverses.one(call.app, wanted, chosen, all_of, there))
    series = reverses.several(call.app, wanted, reverses.pending(there, all_of), all_of, there)
    done = [_one(call, made) for made in series]
    if not done:
        call.say(f"nothing is pending: all {len(all_of)} migrations of {folder} are applied")
    return {"migrations": done}


def _wanted(call: Call, schema: str | None, state: str | None, **more: Any) -> Wanted:
    from naap_ops.reverses import STATES, Wanted

    if state is not None and state.partition(":")[0] not in STATES:
        raise UsageError(detail=f"--from wants {', '.join(STATES)}, not {state!r}")
    return replace(Wanted(call.database, schema, state), **more)


def _history(call: Call, given: str | None) -> list[Any]:
    """The folder's migrations for a file that is none of them; without a folder, none."""
    from naap_ops import reverses
    from naap_ops.errors import ConfigurationError
    from naap_ops.reverse import files

    try:
        return files.in_folder(reverses.folder(call.app, given))
    except ConfigurationError:
        if given is not None:
            raise
        return []


def _one(call: Call, made: Made) -> dict[str, Any]:
    """Tell about one reverse; the worst outcome is the exit code."""
    reverse = made.reverse
    facts = made.as_dict()
    lines = [f"{made.migration.name}: {reverse.status}, {reverse.seconds:.2f} s, from {made.state}"]
    lines += [f"  {line}" for line in reverse.reason.splitlines()]
    lines += [f"  note: {note}" for note in made.notes]
    for loss in facts["losses"]:
        what = f"{loss['loss']} of {loss['object']}" if loss["object"] else loss["loss"]
        lines.append(f"  loses (statement {loss['statement']}): {what}: {loss['reason']}")
    lines += [f"  stops, and changes nothing, when: {condition}" for condition in (facts["proof"] or {}).get("conditions", [])]
    lines += [f"  locks {relation}: {lock}" for relation, lock in facts["locks"].items()]
    if reverse.text and reverse.plan is not None and not reverse.plan.pieces and reverse.status != "refused":
        lines.append("  the schema is as it was before: the reverse does nothing")
    if not reverse.transactional:
        lines.append("  not in one transaction: stopped half-way, what went before remains")
    if made.down is not None:
        lines.append(f"  {made.down}")
    (call.say if made.exit_code == 0 else call.insist)("\n".join(lines))
    call.exit_code = max(call.exit_code, made.exit_code)
    return facts


@command(without=("yes",), **_FLAGS)
def prove(
    call: Call,
    migration: str,
    migrations: str | None = None,
    from_: str | None = None,
    schema: str | None = None,
    templates: str | None = None,
    shadow_server: str | None = None,
) -> dict[str, Any]:
    """
    Prove the down.sql that is there, perhaps edited by hand; its header and down.json are written anew with the result.

    Exit codes as of `reverse`. One that fails its proof is kept, but stops before its first statement.

    Example: invoke reverse.prove --migration 20261121_add_wallet
    """
    from naap_ops import reverses
    from naap_ops.reverse import files

    call.override(reverse__templates=templates, reverse__shadow=shadow_server)
    wanted = _wanted(call, schema, from_)
    folder = reverses.folder(call.app, migrations)
    all_of = files.in_folder(folder)
    chosen = files.pick(all_of, migration, folder)
    with progress(call):
        return _one(call, reverses.prove(call.app, wanted, chosen, all_of, reverses.live(call.app, wanted)))


# --- the difference of two states -----------------------------------------------------------------------------------


def _difference(call: Call, wanted: Wanted, states: list[str], out: Path | None) -> dict[str, Any]:
    from naap_ops import differences
    from naap_ops.files import write_durably

    before, after = states
    with progress(call):
        made = differences.reverse(call.app, wanted, before, after)
    reverse = made.reverse
    lines = [f"from {made.after} back to {made.before}: {reverse.status}"]
    lines += [f"  {line}" for line in reverse.reason.splitlines()]
    lines += [f"  loses {loss['loss']} of {loss['object']}: {loss['reason']}" for loss in reverse.losses]
    lines += [f"  perhaps a rename: {offer}" for offer in made.renames]
    (call.note if reverse.status == "proved" else call.complain)("\n".join(lines))
    if out is not None and not wanted.check:
        write_durably(out, reverse.text.encode())
        call.say(str(out))
    elif not wanted.check:
        call.say(reverse.text)
    call.exit_code = made.exit_code
    return {**reverse.as_dict(), "down": str(out) if out and not wanted.check else None, "renames": list(made.renames)}


@command(
    without=("yes",),
    out="the file to write",
    schema="what unqualified names mean; by default the URL's ?schema=, else public",
)
def catalog(call: Call, out: str, schema: str | None = None) -> dict[str, Any]:
    """
    Save the database's catalog as a file, for `reverse --from-diff` after the next `prisma db push`.

    Example: invoke reverse.catalog --out before.json
    """
    from naap_ops import differences

    saved = differences.save(call.app, call.database, Path(out), schema)
    call.say(f"{saved.objects} objects of {saved.database}: {out}")
    return {"out": out, "objects": saved.objects, "major": saved.major, "schema": saved.schema}


# --- a whole history ------------------------------------------------------------------------------------------------


@command(
    name="history",
    without=("yes", "database", "url"),
    dir="the folder of migrations",
    out="where OUT/<name>/down.sql and down.json, or refused.txt, are written",
    jobs="processes, each with a part of the history (setting reverse.jobs)",
    resume="go on where an earlier walk has stopped: this is the default",
    again="make those anew, too, that an earlier walk has finished",
    schema="what unqualified names mean (default public)",
    templates=_FLAGS["templates"],
    major="PostgreSQL's major (setting reverse.major; default 16 if installed)",
)
def history(
    call: Call,
    dir: str,
    out: str | None = None,
    jobs: int | None = None,
    resume: bool = False,
    again: bool = False,
    schema: str = "public",
    templates: str | None = None,
    major: int | None = None,
) -> dict[str, Any]:
    """
    Write the reverse of every migration of a history, each proved, on a scratch server; say how many there are.

    Exit code 0 also when some are refused: the table and refused.txt say which, and why.

    Example: invoke reverse.history --dir prisma/migrations --out reverses
    """
    from naap_ops import clock, reverses
    from naap_ops.reverse import files

    if out is None:
        raise UsageError(detail="--out is wanted: the folder to write into")
    if resume and again:
        raise UsageError(detail="--resume and --again exclude each other")
    call.override(reverse__jobs=number("--jobs", jobs), reverse__major=number("--major", major), reverse__templates=templates)
    settings = call.app.loaded.settings.reverse
    began = clock.monotonic()
    counts: Counter[str] = Counter()
    total = len(files.in_folder(Path(dir)))

    def tell(entry: Entry) -> None:
        counts[entry.outcome] += 1
        call.events.emit("history.progress", tables=counts.total(), unit="migrations", last=entry.name)
        if entry.outcome != "proved":
            call.note(f"{entry.name}: {entry.outcome}: {entry.reason.splitlines()[0] if entry.reason else ''}")

    with progress(call):
        call.events.emit("history.begin", tables=total, unit="migrations")
        found = reverses.walked(
            call.app, Path(dir).absolute(), Path(out).absolute(), schema=schema, jobs=settings.jobs, again=again, tell=tell
        )
    return _counted(call, found, clock.monotonic() - began)


def _counted(call: Call, found: list[Entry], seconds: float) -> dict[str, Any]:
    from naap_ops.reverse.history import OUTCOMES, by_family

    families = by_family(found)
    counts = {outcome: sum(entry.outcome == outcome for entry in found) for outcome in OUTCOMES}
    rows = [[name, *(str(numbers[outcome]) for outcome in OUTCOMES)] for name, numbers in families.items()]
    call.table(
        ["FAMILY", *(f" {outcome.upper()}" for outcome in OUTCOMES)], [*rows, ["all migrations", *map(str, counts.values())]]
    )
    finished = sum(entry.again for entry in found)
    call.say(f"{len(found)} migrations in {seconds:.1f} s" + (f", {finished} of them finished before" if finished else ""))
    return {"total": len(found), **counts, "seconds": round(seconds, 3), "by_family": families}


collection = Collection(run, prove, history, catalog)
