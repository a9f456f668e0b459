"""`invoke config`: every setting, where it came from, secrets masked."""

from __future__ import annotations

from typing import Any

from naap_ops.tasks.command import Call, command


@command()
def config(call: Call) -> dict[str, Any]:
    """
    Print every setting and where it came from.

    Example: invoke config --json
    """
    table = call.app.loaded.table()
    call.table(
        ["SETTING", "VALUE", "SOURCE"], [[name, _text(entry["value"]), entry["source"]] for name, entry in table.items()]
    )
    for problem in call.app.unheard():
        call.complain(f"naap_ops: {problem}")
    return {"settings": table}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
