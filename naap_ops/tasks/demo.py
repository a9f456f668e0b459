"""`invoke demo`: see the toolkit work, with nothing installed but itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from naap_ops.tasks.command import Call, command


@command(
    without=("repo", "database", "url", "settings", "yes"),
    folder="where the demonstration lives; it holds the backup afterwards, and nothing else is touched",
    major="major version of the embedded PostgreSQL: 16 or 18",
)
def demo(call: Call, folder: str = ".demo", major: int = 16) -> dict[str, Any]:
    """
    Back up a sample database, destroy it by a migration, restore it, and prove it.

    Example: invoke demo
    """
    from naap_ops.demo.run import run

    return run(Path(folder), major, call.say)
