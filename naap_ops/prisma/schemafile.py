"""What ``schema.prisma`` says of its database: the ``datasource`` block, whether the schema is one file or a folder of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from naap_ops.errors import ConfigurationError

# Comments, and strings that may hold what looks like one.
_LEXEME = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_DATASOURCE = re.compile(r"^\s*datasource\s+(\w+)\s*\{(.*?)^\s*\}", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r'^\s*(\w+)\s*=\s*(?:env\(\s*"([^"]*)"\s*\)|"([^"]*)"|\[([^\]]*)\])', re.MULTILINE)


@dataclass(frozen=True)
class Datasource:
    """``provider``; the variables of ``directUrl`` and ``url``, preferred first; ``schemas`` of multiSchema."""

    provider: str | None = None
    url: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()


def files(schema: Path) -> list[Path]:
    """The file itself, or every ``.prisma`` file below the folder."""
    return sorted(schema.rglob("*.prisma")) if schema.is_dir() else [schema]


def datasource(schema: Path) -> Datasource:
    """The datasource of a schema; empty where there is none. Raises ConfigurationError for a file that cannot be read."""
    for path in files(schema):
        try:
            text = _LEXEME.sub(lambda m: m[0] if m[0][0] == '"' else "", path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(detail=f"{path} cannot be read: {error}") from None
        if block := _DATASOURCE.search(text):
            return _fields(block[2])
    return Datasource()


def _fields(block: str) -> Datasource:
    plain: dict[str, str] = {}
    variables: dict[str, str] = {}
    schemas: tuple[str, ...] = ()
    for name, variable, text, words in _FIELD.findall(block):
        if variable:
            variables[name] = variable
        elif name == "schemas":
            schemas = tuple(re.findall(r'"([^"]*)"', words))
        else:
            plain[name] = text
    url = tuple(variables[name] for name in ("directUrl", "url") if name in variables)
    return Datasource(plain.get("provider"), url, schemas)
