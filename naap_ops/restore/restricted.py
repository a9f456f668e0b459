"""A script on its way to psql: shut in, so that it can speak to the server only.

psql obeys backslash commands in a script, ``\\!`` (a shell) among them. ``\\restrict KEY`` forbids them until
``\\unrestrict KEY`` (minors since August 2025, CVE-2025-8714; pg_dump writes the pair itself since then). A hostile script
knows its own key, so its pair is taken out and one of ours put around the whole, where this psql knows the command.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from naap_ops import process
from naap_ops.backup.loading import Sink, Through

if TYPE_CHECKING:
    from naap_ops.postgres.tools import Toolset

HEAD_BYTES = 1 << 16
_PAIR = re.compile(rb"^\\restrict (\w+)$\n?", re.MULTILINE)
# pg_dump 17 and newer write it for every server; older servers do not know it.
_TRANSACTION_TIMEOUT = re.compile(rb"^SET transaction_timeout = 0;\n", re.MULTILINE)
_KNOWS_TRANSACTION_TIMEOUT = 17


@functools.cache
def knows_restrict(tools: Toolset) -> bool:
    """Whether this psql has ``\\restrict``: it lists its own commands. Raises CommandFailed."""
    from naap_ops.postgres.conninfo import ConnInfo

    nowhere = ConnInfo(host=None, port=None, user=None, dbname=None)
    command = tools.command("psql", ["-X", "--help=commands"], nowhere)
    _, output, _ = process.run(command.argv, env=command.env, input=command.preamble or None)
    return b"\\restrict" in output


def wrapper(tools: Toolset) -> Through:
    """For :func:`naap_ops.backup.loading.load_script`."""
    key = secrets.token_hex(32) if knows_restrict(tools) else None
    return lambda sink: _Restricted(sink, key, tools.major).feed


class _Restricted:
    """Writes to ``sink``: our command first, then the script without the pair it came with."""

    def __init__(self, sink: Sink, key: str | None, major: int) -> None:
        self._sink = sink
        self._major = major
        self._head = b""
        self._pass: Callable[[bytes], None] | None = None
        if key is not None:
            sink(f"\\restrict {key}\n".encode())

    def feed(self, piece: bytes) -> None:
        """The next bytes; an empty piece means the end."""
        if self._pass is not None:
            self._pass(piece)
            return
        self._head += piece
        if len(self._head) >= HEAD_BYTES or not piece:
            head, self._head = self._head, b""
            self._pass = _without_pair(head, self._sink)
            self._pass(self._adapted(head))

    def _adapted(self, head: bytes) -> bytes:
        if self._major < _KNOWS_TRANSACTION_TIMEOUT:
            return _TRANSACTION_TIMEOUT.sub(b"", head, count=1)
        return head


def _without_pair(head: bytes, sink: Sink) -> Callable[[bytes], None]:
    """A filter that takes out the lines of the script's own pair, as its ``head`` announces it."""
    own = _PAIR.search(head)
    return _LinesOut(sink, own[1]).feed if own else sink


class _LinesOut:
    """Takes the lines ``\\restrict KEY`` and ``\\unrestrict KEY`` out, also when they come in pieces."""

    def __init__(self, sink: Sink, key: bytes) -> None:
        self._sink = sink
        self._lines = re.compile(rb"^\\(?:un)?restrict " + key + rb"$", re.MULTILINE)
        self._longest = len(b"\\unrestrict ") + len(key)
        self._held = b""

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        cut = data.rfind(b"\n") + 1
        may_be_one = data[cut : cut + 1] == b"\\" and len(data) - cut <= self._longest
        if not piece or not may_be_one:
            cut = len(data)
        self._held = data[cut:]
        self._sink(self._lines.sub(b"", data[:cut]))
