"""What a deploy was, on the disk: JSON for machines and Markdown for people, whatever its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from naap_ops import files, redact
from naap_ops.errors import StorageError
from naap_ops.wording import count_of


@dataclass
class Record:
    """``migrations``: per migration its ``name``, ``state`` afterwards, ``reverse`` and its ``losses``, ``down``, ``seconds``
    (None where a command applied it), ``proved_in``. ``command``: its words, redacted; None: the built-in deploy. ``status``:
    its exit. ``captured``: per table whose rows are kept for a reverse, ``migration, table, rows, bytes``. ``restored``: rows
    by table that a rollback had parked; ``left``: those that stay parked, ``table, key, columns, reason``, a thousand of the
    ``leaving``. ``error``: the failure's JSON form, None when all went well. ``before``, ``after``: every migration's state.

    ``tenants``: where tenants were asked for, per schema its ``state`` (waiting, current, applied, failed, left_out), what is
    ``applied`` of what was ``pending``, ``seconds``, ``error``. A migration's ``state`` is then the worst in any of them,
    its ``seconds`` are those of all; ``before`` and ``after`` are empty, ``schema`` is the first.
    """

    id: str
    database: str
    schema: str
    user: str
    host: str
    began: str
    before: dict[str, str]
    migrations: list[dict[str, Any]]
    dangers: list[str]
    notes: list[str]
    backup: str | None = None
    backup_seconds: float | None = None
    captured: list[dict[str, Any]] = field(default_factory=list)
    restored: dict[str, int] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    leaving: int = 0
    command: list[str] | None = None
    status: int | None = None
    seconds: float = 0.0
    outcome: str = ""
    after: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    tenants: list[dict[str, Any]] = field(default_factory=list)
    record: str = ""

    @property
    def applied(self) -> list[str]:
        """Of what was pending, what is applied now."""
        return [each["name"] for each in self.migrations if each["state"] == "applied"]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "applied": self.applied}

    def keep(self, folder: Path) -> None:
        """Write both. That they cannot be written is a note: what was done is done."""
        path = folder / f"{self.id}.json"
        self.record = str(path)
        text = json.dumps(redact.values(self.as_dict()), indent=1, ensure_ascii=False, default=str)
        try:
            files.make_private_dir(folder)
            files.write_durably(path, (text + "\n").encode())
            files.write_durably(path.with_suffix(".md"), (redact.text("\n".join(self._markdown())) + "\n").encode())
        except (OSError, StorageError) as error:
            self.record = ""
            self.notes.append(f"no record was written: {error}")

    def _markdown(self) -> Iterator[str]:
        yield f"# Deploy {self.id}: {self.outcome}\n"
        where = f"{count_of(len(self.tenants), 'schema')} of tenants" if self.tenants else f"schema {self.schema}"
        yield f"- database {self.database}, {where}"
        yield f"- {self.began} by {self.user}@{self.host}, {self.seconds:.1f} s"
        yield f"- backup before it: {self.backup or 'none'}"
        by = " ".join(self.command) if self.command else "the built-in deploy"
        yield f"- applied by: {by}" + (f", exit {self.status}" if self.status is not None else "")
        yield "\n## Migrations\n"
        for each in self.migrations:
            yield f"- {each['name']}: {each['state']}; reverse {each['reverse']}"
            yield from (f"  - its reverse loses {loss['object']}: {loss['reason']}" for loss in each["losses"])
        if self.tenants:
            yield "\n## Tenants\n"
            yield from (f"- {tenant_line(each)}" for each in self.tenants)
        kept = [f"{each['rows']} of {each['table']} for the reverse of {each['migration']}" for each in self.captured]
        back = [f"{rows} of {table}" for table, rows in self.restored.items()]
        back += [f"left: {left_line(each)}" for each in self.left]
        for title, lines in (
            ("Rows kept", kept),
            ("Rows brought back", back),
            ("Dangers", self.dangers),
            ("Notes", self.notes),
        ):
            if lines:
                yield f"\n## {title}\n"
                yield from (f"- {line}" for line in lines)
        yield "\n## Steps\n"
        yield from (f"- {each['name']}: {each['state']}, {each['seconds']:.1f} s" for each in self.steps)
        if self.error is not None:
            yield f"\n## Failure\n\n{self.error['message']}\n\n{self.error.get('hint', '')}"


def left_line(entry: dict[str, Any]) -> str:
    """What stays parked, for people."""
    what = f"{', '.join(entry['columns'])} of " if entry["columns"] else ""
    return f"{what}{entry['table']} {entry['key']}: {entry['reason']}".replace(" :", ":")


def tenant_line(entry: dict[str, Any]) -> str:
    """What became of one tenant's schema, for people."""
    what = f"{count_of(len(entry['applied']), 'migration')} applied" if entry["applied"] else ""
    said = str(entry["error"]["message"]).splitlines()[0] if entry["error"] else ""
    return f"{entry['schema']}: {entry['state'].replace('_', ' ')}" + "".join(f"; {each}" for each in (what, said) if each)
