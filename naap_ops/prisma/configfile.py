"""Reads ``prisma.config.ts`` and its kin without running them: an object literal is read as one, anything else is named.

Prisma loads the file as a program. What people write there is mostly ``export default defineConfig({...})`` with strings,
``env("X")``, ``process.env.X`` and ``path.join(...)``, and that much is understood, also through constants of the file.
Source: packages/config in Prisma's repository (``loadConfigFromFile``, ``PrismaConfig``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from naap_ops.errors import ConfigurationError

EXTENSIONS = ("js", "ts", "mjs", "cjs", "mts", "cts")

_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*|/\*.*?\*/)
      |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)
      |(?P<word>[A-Za-z_$][\w$]*(?:\s*\??\.\s*[A-Za-z_$][\w$]*)*)
      |(?P<mark>\.\.\.|=>|\?\?|\|\||&&|[^\s])""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(u\{[0-9A-Fa-f]+\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|\n|.)", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
_PAIRS = {"{": "}", "(": ")", "[": "]"}
_HERE = ("__dirname", "import.meta.dirname")
_JOINS = ("path.join", "path.resolve", "join", "resolve")
_DEEPEST = 20


@dataclass(frozen=True)
class Opaque:
    """A value that only running the program could tell; ``text`` is how it begins."""

    text: str


@dataclass(frozen=True)
class Env:
    """The value of the first of these variables that is set."""

    names: tuple[str, ...]


Value = str | Env | Opaque | dict[str, "Value"]


@dataclass(frozen=True)
class ConfigFile:
    """What the file says of what we need; ``problems`` is what could not be read, one sentence each."""

    path: Path
    schema: Path | None = None
    migrations: Path | None = None
    url: tuple[str, ...] = ()
    """Names of the variables that ``datasource.url`` is taken from."""
    problems: tuple[str, ...] = field(default=())


def find(root: Path) -> Path | None:
    """The file that Prisma would load when run in ``root``; last the one in ``root/prisma``, which wants ``--config``."""
    names = [f"{prefix}prisma{generation}{infix}" for prefix, generation, infix in _places()]
    candidates = [root / f"{name}.{extension}" for name in names for extension in EXTENSIONS]
    candidates += [root / "prisma" / f"prisma.config.{extension}" for extension in EXTENSIONS]
    return next((path for path in candidates if os.path.isfile(path)), None)


def _places() -> Iterator[tuple[str, str, str]]:
    """In Prisma 7's order: those of its own generation first, then those that 6 knows as well."""
    for generation in ("7", ""):
        yield from (("", generation, ".config"), ("", generation, ".config/index"))
        yield from ((".config/", generation, infix) for infix in ("", ".config", "/index", ".config/index"))


def read(path: Path) -> ConfigFile:
    """Read the file. Raises ConfigurationError when it cannot be opened, never for what it says."""
    try:
        source = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(detail=f"{path} cannot be read: {error}") from None
    found = _Reader(source).exported()
    if not isinstance(found, dict):
        return ConfigFile(path, problems=(f"{path.name} exports no plain object ({_begin(found)})",))
    problems: list[str] = []
    schema = _path(found, ("schema",), path, problems)
    migrations = _path(found, ("migrations", "path"), path, problems)
    url = _at(found, ("datasource", "url"))
    if isinstance(url, Opaque):
        problems.append(f"{path.name}: datasource.url is worked out by code ({url.text})")
    return ConfigFile(path, schema, migrations, url.names if isinstance(url, Env) else (), tuple(problems))


def _path(found: Mapping[str, Value], address: tuple[str, ...], file: Path, problems: list[str]) -> Path | None:
    """A path counts from the file's folder, as in Prisma."""
    value = _at(found, address)
    if isinstance(value, str):
        return Path(os.path.normpath(file.parent / value))
    if value is not None:
        problems.append(f"{file.name}: {'.'.join(address)} is worked out by code ({_begin(value)})")
    return None


def _at(found: Mapping[str, Value], address: tuple[str, ...]) -> Value | None:
    value: Value | None = dict(found)
    for key in address:
        if not isinstance(value, dict):
            return value if isinstance(value, Opaque) else None
        value = value.get(key, value.get("..."))  # what is spread into an object may hold the key
    return value


def _begin(value: object) -> str:
    return value.text if isinstance(value, Opaque) else str(value)[:60]


class _Reader:
    """The tokens of a file, and values read from them."""

    def __init__(self, source: str) -> None:
        self._tokens = [m for m in _TOKEN.finditer(source) if m.lastgroup != "blank"]
        self._source = source
        self._words = [re.sub(r"\s|\?(?=\.)", "", m[0]) if m.lastgroup == "word" else m[0] for m in self._tokens]
        self._constants = self._declared()

    def exported(self) -> Value:
        """What ``export default`` or ``module.exports =`` gives."""
        words = self._words
        for i, word in enumerate(words):
            if word == "export" and words[i + 1 : i + 2] == ["default"]:
                return self._value(i + 2)[0]
            if word == "module.exports" and words[i + 1 : i + 2] == ["="]:
                return self._value(i + 2)[0]
        return Opaque("no export default")

    def _declared(self) -> dict[str, int]:
        """Where the value of each constant begins. What is declared twice, or assigned to by ``let``, is not looked into."""
        found: dict[str, int] = {}
        words = self._words
        for i, word in enumerate(words[:-2]):
            if word == "const" and self._tokens[i + 1].lastgroup == "word":
                stop = next((j for j in range(i + 2, len(words)) if words[j] in ("=", ";")), len(words))
                if words[i + 1] in found:
                    found[words[i + 1]] = len(words)
                elif stop < len(words) and words[stop] == "=":
                    found[words[i + 1]] = stop + 1
        return found

    def _value(self, at: int, depth: int = 0) -> tuple[Value, int]:
        """The value that begins at token ``at``, and the token behind it. Type assertions are passed over."""
        value, at = self._operand(at, depth)
        while at < len(self._words):
            word = self._words[at]
            if word in ("as", "satisfies"):
                at = self._end(at)
            elif word == "!":
                at += 1
            elif word in ("??", "||"):
                other, at = self._value(at + 1, depth + 1)
                value = _either(value, other)
            elif word in (",", ";", "}", ")", "]") or self._starts_statement(at):
                break
            else:
                begin = self._tokens[at - 1].start()
                at = self._end(at)
                value = Opaque(self._source[begin : begin + 40].split("\n")[0].strip())
        return value, at

    def _starts_statement(self, at: int) -> bool:
        return self._words[at] in ("export", "const", "let", "var", "import", "function", "module.exports")

    def _operand(self, at: int, depth: int) -> tuple[Value, int]:
        if at >= len(self._words) or depth > _DEEPEST:
            return Opaque("its end"), len(self._words)
        token, word = self._tokens[at], self._words[at]
        following = self._words[at + 1] if at + 1 < len(self._words) else ""
        if token.lastgroup == "text":
            return (Opaque(word[:40]) if word[0] == "`" and "${" in word else _unescaped(word[1:-1])), at + 1
        if word == "{":
            return self._object(at, depth)
        if word == "(":
            value, end = self._value(at + 1, depth + 1)
            return (value, end + 1) if self._words[end : end + 1] == [")"] else (Opaque(word), self._closed(at))
        if token.lastgroup != "word":
            return Opaque(word), (self._closed(at) if word in _PAIRS else at + 1)
        if following == "(":
            return self._call(word, at, depth)
        if word == "process.env" and following == "[" and self._tokens[at + 2].lastgroup == "text":
            return Env((_unescaped(self._words[at + 2][1:-1]),)), self._closed(at + 1)
        if word.startswith("process.env."):
            return Env((word.removeprefix("process.env."),)), at + 1
        if word in _HERE:
            return ".", at + 1
        if word in self._constants:
            return self._value(self._constants[word], depth + 1)[0], at + 1
        return Opaque(word), at + 1

    def _call(self, word: str, at: int, depth: int) -> tuple[Value, int]:
        end = self._closed(at + 1)
        arguments: list[Value] = []
        i = at + 2
        while i < end - 1:
            value, i = self._value(i, depth + 1)
            arguments.append(value)
            i += 1
        if word in ("defineConfig", "env") and len(arguments) == 1:
            [only] = arguments
            return (Env((only,)) if word == "env" and isinstance(only, str) else only), end
        texts = [each for each in arguments if isinstance(each, str)]
        if word in _JOINS and arguments and len(texts) == len(arguments):
            return os.path.join(*texts), end
        return Opaque(f"{word}(...)"), end

    def _object(self, at: int, depth: int) -> tuple[Value, int]:
        end = self._closed(at)
        found: dict[str, Value] = {}
        i = at + 1
        while i < end - 1:
            word = self._words[i]
            if word == ",":
                i += 1
            elif word == "...":
                spread, i = self._value(i + 1, depth + 1)
                found |= spread if isinstance(spread, dict) else {"...": Opaque(f"...{_begin(spread)}")}
            else:
                i = self._member(found, i, end, depth)
        return found, end

    def _member(self, found: dict[str, Value], i: int, end: int, depth: int) -> int:
        """One ``key: value``; shorthand and methods are taken for what they are. The token behind it."""
        token, word = self._tokens[i], self._words[i]
        key = _unescaped(word[1:-1]) if token.lastgroup == "text" else word
        following = self._words[i + 1] if i + 1 < end else ""
        if following == ":":
            found[key], i = self._value(i + 2, depth + 1)
            return i
        if following in (",", "}"):
            found[key] = self._operand(i, depth + 1)[0]
            return i + 1
        found["..." if word == "[" else key] = Opaque(word)
        return max(self._end(i), i + 1)

    def _closed(self, at: int) -> int:
        """The token behind the bracket that closes the one at ``at``."""
        depth = 0
        for i in range(at, len(self._words)):
            if self._tokens[i].lastgroup == "mark":
                depth += (self._words[i] in _PAIRS) - (self._words[i] in _PAIRS.values())
            if depth == 0:
                return i + 1
        return len(self._words)

    def _end(self, at: int) -> int:
        """The comma, semicolon or closing bracket that ends the expression around token ``at``."""
        i = at
        while i < len(self._words):
            if self._tokens[i].lastgroup == "mark" and self._words[i] in (",", ";", *_PAIRS.values()):
                return i
            if i > at and self._starts_statement(i):
                return i
            i = self._closed(i) if self._words[i] in _PAIRS else i + 1
        return i


def _either(value: Value, other: Value) -> Value:
    """``a ?? b``: variables in their order; a default behind them is not an address worth knowing here."""
    if isinstance(value, Env):
        return Env((*value.names, *other.names)) if isinstance(other, Env) else value
    return value if isinstance(value, str) else Opaque(f"{_begin(value)} ?? ...")


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "ux" and len(code) > 1:
            return chr(int(code[1:].strip("{}"), 16))
        return _SHORT.get(code, code)

    return _ESCAPE.sub(character, text)
