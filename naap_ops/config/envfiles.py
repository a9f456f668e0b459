"""``.env`` files, read as Prisma reads them.

python-dotenv does the quoting. Expansion is done here, because it differs: Prisma (packages/internals/src/dotenvExpand.ts)
expands only ``${NAME}``, lets the process environment win over the file, also inside single quotes, and takes ``\\${`` for a
literal ``${``; a bare ``$`` in a password stays.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from naap_ops.errors import ConfigurationError

_REFERENCE = re.compile(r"(\\?)\$\{([A-Za-z0-9_]*)\}")
_DEEPEST = 10


@dataclass(frozen=True)
class EnvFile:
    """One file: its name as the settings give it, and its variables, expanded. Empty ones are left out."""

    name: str
    variables: Mapping[str, str] = field(repr=False)


def read(names: Sequence[str], folder: Path, environ: Mapping[str, str]) -> list[EnvFile]:
    """Those of ``names`` (relative to ``folder``) that exist, in order. Raises ConfigurationError for an unreadable one."""
    found = []
    for name in names:
        path = folder / Path(name).expanduser()
        try:
            content = path.read_text("utf-8-sig")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, PermissionError) and not os.access(path.parent, os.X_OK, effective_ids=True):
                continue  # the whole folder is another user's, after `sudo -u` say
            raise ConfigurationError(detail=f"{name} cannot be read: {error}") from None
        found.append(EnvFile(name, parse(content, environ)))
    return found


def parse(content: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of one file's content."""
    from dotenv import dotenv_values

    written = {key: value or "" for key, value in dotenv_values(stream=io.StringIO(content), interpolate=False).items()}
    known = {**written, **environ}
    return {key: value for key, text in written.items() if (value := _expanded(text, known))}


def _expanded(text: str, known: Mapping[str, str], depth: int = 0) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return match[0][1:]
        return _expanded(known.get(name, ""), known, depth + 1)

    return text if depth > _DEEPEST else _REFERENCE.sub(replacement, text)
