"""Flags, checked the same way by every task: numbers, and those that exclude one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naap_ops.errors import Refused, UsageError

if TYPE_CHECKING:
    from naap_ops.tasks.command import Call


def number(flag: str, value: Any) -> int | None:
    """A flag's value as a number: Invoke hands over the text of flags that have no default. Raises UsageError."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise UsageError(detail=f"{flag} wants a number, not {value!r}") from None


def one_of(flags: dict[str, Any], hint: str = "") -> str:
    """The one flag of ``flags`` that was given. Raises UsageError, with ``hint``, for none or several."""
    given = [flag for flag, value in flags.items() if value]
    if len(given) != 1:
        raise UsageError(detail=f"give exactly one of {', '.join(map(_spelled, flags))}", hint=hint)
    return given[0]


def not_both(**given: object) -> None:
    """Raise UsageError where all of these flags are given; they are named as the task's parameters are."""
    if all(given.values()):
        raise UsageError(detail=f"{' or '.join(map(_spelled, given))}, not both")


def no_backup_meant(call: Call, *, no_backup: bool, dry_run: bool) -> None:
    """Raise Refused where no backup is to be taken and nobody has said that this is meant."""
    if no_backup and not (call.yes or dry_run):
        raise Refused(
            reason="--no-backup leaves no way back from a migration that fails half-way: nothing was done",
            hint="Give --yes as well if that is meant; or --backup ID, one of the last hour.",
        )


def _spelled(flag: str) -> str:
    return "--" + flag.replace("_", "-")
