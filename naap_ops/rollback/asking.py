"""What Prisma says of the migrations, where the project has it: ``prisma migrate status``, as it is installed there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from naap_ops.errors import OpsError

if TYPE_CHECKING:
    from naap_ops.rollback.commands import Surroundings

WORDS = ("npx", "--no-install", "prisma", "migrate", "status")  # --no-install: nothing is fetched from the net
_SECONDS = 60.0


def prisma_status(around: Surroundings, step: str) -> str | None:
    """``in step`` or what its exit status was; None where the project has no Prisma installed, or there is no npx."""
    installed = any((each / "node_modules" / "prisma").exists() for each in (around.root, *around.root.parents))
    if not installed or shutil.which(WORDS[0]) is None:
        return None
    try:
        code = around.run(step, WORDS, _SECONDS, check=False)
    except OpsError as error:
        return f"`{' '.join(WORDS)}` could not be asked: {error.text}"
    return "in step, as Prisma itself says" if code == 0 else f"`{' '.join(WORDS)}` ended with {code}: look at what it says"
